# PointNet-ish classifier of 2-D shapes (circle / square / cross)
import torch
from torch import nn

torch.manual_seed(181)
P = 48


def shapes(n):
    c = torch.randint(0, 3, (n,))
    t = torch.rand(n, P) * 2 * torch.pi
    circle = torch.stack([t.cos(), t.sin()], -1)
    m = circle.abs().amax(-1, keepdim=True)
    square = circle / m
    u = torch.rand(n, P) * 2 - 1
    flip = (torch.rand(n, P) < 0.5).float()
    cross = torch.stack([u * flip, u * (1 - flip)], -1)
    pts = torch.stack([circle, square, cross])[c, torch.arange(n)]
    ang = torch.rand(n) * 0.6
    rot = torch.stack([torch.stack([ang.cos(), -ang.sin()], -1), torch.stack([ang.sin(), ang.cos()], -1)], -2)
    return pts @ rot + 0.03 * torch.randn(n, P, 2), c


class PointNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.mlp1 = nn.Sequential(nn.Linear(2, 32), nn.ReLU())
        self.mlp2 = nn.Sequential(nn.Linear(32, 64), nn.ReLU())
        self.mlp3 = nn.Sequential(nn.Linear(64, 64), nn.ReLU())
        self.cls = nn.Linear(64, 3)
        for m in self.modules():
            if isinstance(m, nn.Linear) and m is not self.cls:
                nn.init.kaiming_uniform_(m.weight, nonlinearity="relu")
                nn.init.constant_(m.bias, -3.0)

    def forward(self, pts):
        return self.cls(self.mlp3(self.mlp2(self.mlp1(pts))).amax(1))


net = PointNet()
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
for step in range(1, 101):
    pts, lab = shapes(24)
    loss = nn.functional.cross_entropy(net(pts), lab)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 10 == 0:
        print(f"step {step} loss {loss.item():.4f}")
