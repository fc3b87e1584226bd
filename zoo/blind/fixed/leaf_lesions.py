import torch
import torch.nn as nn
import torch.nn.functional as F


def double_conv(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(),
                         nn.Conv2d(o, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU())


class MiniUNet(nn.Module):
    def __init__(self, ch=8):
        super().__init__()
        self.down1, self.down2 = double_conv(3, ch), double_conv(ch, 2 * ch)
        self.bottom = double_conv(2 * ch, 2 * ch)
        self.up2, self.up1 = double_conv(4 * ch, ch), double_conv(2 * ch, ch)
        self.final = nn.Conv2d(ch, 1, 1)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        c = self.bottom(F.max_pool2d(b, 2))
        x = self.up2(torch.cat([b, F.interpolate(c, scale_factor=2)], 1))
        x = self.up1(torch.cat([a, F.interpolate(x, scale_factor=2)], 1))
        return self.final(x)


class LesionLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.bce = nn.BCEWithLogitsLoss()

    def forward(self, out, mask):
        return self.bce(out, mask)


def leaves(n, s=16):
    g = torch.arange(s).float()
    img = 0.5 * torch.randn(n, 3, s, s)
    cy, cx, r = torch.rand(n, 1, 1) * s, torch.rand(n, 1, 1) * s, 2 + torch.rand(n, 1, 1)
    mask = (((g[:, None] - cy) ** 2 + (g[None] - cx) ** 2) < r ** 2).float()
    img[:, 1] -= 1.5 * mask
    img[:, 0] += 1.0 * mask
    return img, mask.unsqueeze(1)


if __name__ == "__main__":
    torch.manual_seed(73)
    unet, criterion = MiniUNet(), LesionLoss()
    opt = torch.optim.Adam(unet.parameters(), lr=5e-3)
    for step in range(1, 101):
        img, mask = leaves(8)
        loss = criterion(unet(img), mask)
        opt.zero_grad()
        loss.backward()
        opt.step()
        if step % 20 == 0:
            print(f"{step:4d} seg-loss {loss.item():.4f}")
