import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(251)
S = 16
g = torch.linspace(-1, 1, S)
yy, xx = torch.meshgrid(g, g, indexing="ij")


def data(n):
    w = 3 + 9 * torch.rand(n, 1, 1)
    a = torch.rand(n, 1, 1) * 3.14
    wave = torch.sin(w * (xx * a.cos() + yy * a.sin()) + 6.28 * torch.rand(n, 1, 1))
    r = 0.35 + 0.3 * torch.rand(n, 1, 1)
    cx, cy = torch.rand(2, n, 1, 1) - 0.5
    mask = ((xx - cx) ** 2 + (yy - cy) ** 2 < r ** 2).float()
    img = wave * mask + 0.6 * torch.randn(n, S, S)
    return img[:, None], mask[:, None]


def double(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(), nn.Conv2d(o, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU())


class UNet(nn.Module):
    def __init__(self, c=8):
        super().__init__()
        self.down1, self.down2, self.bottom = double(1, c), double(c, 2 * c), double(2 * c, 2 * c)
        self.up2, self.up1 = nn.Conv2d(4 * c, c, 1), nn.Conv2d(2 * c, c, 1)
        self.final = nn.Conv2d(c, 1, 1)

    def encode(self, x):
        s1 = self.down1(x)
        s2 = self.down2(F.max_pool2d(s1, 2))
        b = self.bottom(F.max_pool2d(s2, 2))
        return [t for t in (s1, s2, b)]

    def forward(self, x):
        s1, s2, b = self.encode(x)
        u = F.relu(self.up2(torch.cat([F.interpolate(b, scale_factor=2.0), s2], 1)))
        u = F.relu(self.up1(torch.cat([F.interpolate(u, scale_factor=2.0), s1], 1)))
        return self.final(u)


net = UNet()
x, m = data(320)
xv, mv = data(64)
opt = torch.optim.AdamW(net.parameters(), lr=3e-3)
for epoch in range(5):
    net.train()
    for idx in torch.randperm(320).split(16):
        loss = F.binary_cross_entropy_with_logits(net(x[idx]), m[idx])
        opt.zero_grad(); loss.backward(); opt.step()
    net.eval()
    with torch.no_grad():
        v = F.binary_cross_entropy_with_logits(net(xv), mv).item()
    print(f"epoch {epoch} train {loss.item():.4f} val {v:.4f}")
