import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


class BasicBlock(nn.Module):
    def __init__(self, i, o, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(i, o, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(o)
        self.conv2 = nn.Conv2d(o, o, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(o)
        nn.init.zeros_(self.bn2.weight)
        self.skip = nn.Identity() if i == o and stride == 1 else nn.Conv2d(i, o, 1, stride, bias=False)

    def forward(self, x):
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.skip(x))


torch.manual_seed(2)
d = load_digits()
x = torch.tensor(d.images / 8 - 1, dtype=torch.float32)[:, None]
y = torch.tensor(d.target)
blocks = [(12, 12, 1), (12, 12, 1), (12, 24, 2), (24, 24, 1), (24, 24, 1)]
net = nn.Sequential(
    nn.Conv2d(1, 12, 3, 1, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU(),
    *[BasicBlock(*b) for b in blocks], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10),
)
opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
epochs = 8
sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, epochs * 22)
for epoch in range(epochs):
    net.train()
    for rows in torch.randperm(1408).split(64):
        loss = F.cross_entropy(net(x[rows]), y[rows])
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step()
    net.eval()
    with torch.no_grad():
        acc = (net(x[1408:]).argmax(1) == y[1408:]).float().mean().item()
    print(f"epoch {epoch} loss {loss.item():.4f} accuracy {acc:.3f}")
