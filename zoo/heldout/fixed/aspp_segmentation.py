# DeepLab-ish head with an image-level pooling branch, synthetic blobs segmentation
import torch
from torch import nn
import torch.nn.functional as F

torch.manual_seed(201)
S = 16
g = torch.arange(S).float()


def make(n):
    c = torch.rand(n, 2) * 10 + 3
    r = 2 + 2.5 * torch.rand(n)
    d = ((g[None, :, None] - c[:, :1, None]) ** 2 + (g[None, None] - c[:, 1:, None]) ** 2).sqrt()
    mask = (d < r[:, None, None]).long()
    inv = (torch.rand(n) < 0.5).float()[:, None, None]
    img = (mask.float() * (1 - inv) + (1 - mask.float()) * inv) + 0.3 * torch.randn(n, S, S)
    return img[:, None], mask


class ASPP(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.b1 = nn.Conv2d(c, c, 3, padding=1)
        self.b2 = nn.Conv2d(c, c, 3, padding=3, dilation=3)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, c, 1, bias=False), nn.GroupNorm(4, c), nn.ReLU())

    def forward(self, x):
        g = self.pool(x).expand(-1, -1, *x.shape[2:])
        return torch.cat([F.relu(self.b1(x)), F.relu(self.b2(x)), g], 1)


net = nn.Sequential(nn.Conv2d(1, 12, 5, padding=2), nn.ReLU(), ASPP(12), nn.Conv2d(36, 24, 3, padding=1), nn.ReLU(),
                    nn.Conv2d(24, 2, 1))
x, y = make(240)
xv, yv = make(60)
BATCH = 2
opt = torch.optim.Adam(net.parameters(), lr=2e-3)
step = 0
for epoch in range(2):
    net.train()
    for idx in torch.randperm(240).split(BATCH):
        loss = F.cross_entropy(net(x[idx]), y[idx])
        opt.zero_grad()
        loss.backward()
        opt.step()
        step += 1
        if step % 30 == 0:
            net.eval()
            with torch.no_grad():
                v = F.cross_entropy(net(xv), yv).item()
            net.train()
            print(f"step {step} train {loss.item():.4f} val {v:.4f}")
