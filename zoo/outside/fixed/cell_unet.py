import torch
import torch.nn as nn
import torch.nn.functional as F

LR = 2e-3
SIZE = 24


def draw_cells(n, generator):
    yy, xx = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    mask = torch.zeros(n, SIZE, SIZE)
    for _ in range(3):
        cy = torch.rand(n, 1, 1, generator=generator) * SIZE
        cx = torch.rand(n, 1, 1, generator=generator) * SIZE
        r = 2 + 3 * torch.rand(n, 1, 1, generator=generator)
        mask = torch.maximum(mask, (((yy - cy) ** 2 + (xx - cx) ** 2) < r**2).float())
    image = mask * 0.8 + 0.4 * torch.randn(mask.shape, generator=generator)
    return image[:, None], mask[:, None]


class DoubleConv(nn.Sequential):
    def __init__(self, i, o):
        super().__init__(nn.Conv2d(i, o, 3, padding=1), nn.ReLU(), nn.Conv2d(o, o, 3, padding=1), nn.ReLU())


class UNet(nn.Module):
    def __init__(self, c=8):
        super().__init__()
        self.down1 = DoubleConv(1, c)
        self.down2 = DoubleConv(c, 2 * c)
        self.bottom = DoubleConv(2 * c, 4 * c)
        self.up2 = DoubleConv(6 * c, 2 * c)
        self.up1 = DoubleConv(3 * c, c)
        self.final = nn.Conv2d(c, 1, 1)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        z = self.bottom(F.max_pool2d(b, 2))
        z = self.up2(torch.cat([F.interpolate(z, scale_factor=2), b], 1))
        z = self.up1(torch.cat([F.interpolate(z, scale_factor=2), a], 1))
        return self.final(z)


def dice(logits, target):
    p = logits.sigmoid()
    inter = (p * target).sum((1, 2, 3))
    return 1 - ((2 * inter + 1) / (p.sum((1, 2, 3)) + target.sum((1, 2, 3)) + 1)).mean()


torch.manual_seed(30)
gen = torch.Generator().manual_seed(30)
net = UNet()
optimizer = torch.optim.Adam(net.parameters(), lr=LR)
for it in range(250):
    x, y = draw_cells(8, gen)
    logits = net(x)
    loss = F.binary_cross_entropy_with_logits(logits, y) + dice(logits, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if it % 50 == 0:
        print(f"iter {it} loss {loss.item():.4f}")
with torch.no_grad():
    x, y = draw_cells(64, gen)
    print(f"held-out dice loss {dice(net(x), y).item():.3f}")
