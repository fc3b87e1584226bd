# cell intensity classification; micro-batches + gradient accumulation to fit into memory
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(341)
S = 12
MICRO, ACCUM = 1, 16
g = torch.arange(S).float()


def cells(n):
    y = torch.randint(0, 3, (n,))
    level = 0.4 + 0.6 * y.float() + 0.1 * torch.randn(n)
    c = torch.rand(n, 2) * 6 + 3
    d = (g[None, :, None] - c[:, :1, None]) ** 2 + (g[None, None] - c[:, 1:, None]) ** 2
    img = level[:, None, None] * torch.exp(-d / 8) + 0.05 * torch.randn(n, S, S)
    return img[:, None], y


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.conv2, self.bn2 = nn.Conv2d(12, 24, 3, padding=1, stride=2), nn.BatchNorm2d(24)
        self.fc = nn.Linear(24, 3)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return self.fc(x.mean((2, 3)))


xt, yt = cells(560)
xv, yv = cells(120)
net = Net()
opt = torch.optim.Adam(net.parameters(), lr=1e-2)
for epoch in range(3):
    net.train()
    opt.zero_grad()
    tot = 0.0
    for k, idx in enumerate(torch.randperm(560).split(MICRO)):
        loss = F.cross_entropy(net(xt[idx]), yt[idx]) / ACCUM
        loss.backward()
        tot += loss.item() * ACCUM * len(idx)
        if (k + 1) % ACCUM == 0:
            opt.step()
            opt.zero_grad()
    net.eval()
    with torch.no_grad():
        v = F.cross_entropy(net(xv), yv).item()
    print(f"epoch {epoch} train {tot / 560:.4f} val {v:.4f}")
