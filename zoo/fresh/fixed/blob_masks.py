"""A small U-Net outlines blobs, a few pictures at a time."""
import torch
from torch import nn

BATCH = 16


def conv(a, b):
    return nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU())


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down1 = conv(1, 8)
        self.down2 = conv(8, 16)
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16), nn.Sigmoid())
        self.up1 = conv(24, 8)
        self.out = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(nn.functional.max_pool2d(a, 2))
        b = b * self.squeeze(b)
        up = nn.functional.interpolate(b, scale_factor=2)
        return self.out(self.up1(torch.cat([a, up], 1)))


def picture(n):
    grid = torch.stack(torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij"))
    center = 4 + 8 * torch.rand(n, 2, 1, 1)
    mask = ((grid - center).pow(2).sum(1, keepdim=True) < 12).float()
    return mask * torch.rand(n, 1, 1, 1) + 0.3 * torch.randn(n, 1, 16, 16), mask


class Trainer:
    def __init__(self, model, lr):
        self.model, self.opt = model, torch.optim.Adam(model.parameters(), lr=lr)
        self.model.train()

    def step(self, x, y):
        self.opt.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(self.model(x), y)
        loss.backward()
        self.opt.step()
        return loss.item()

    @torch.no_grad()
    def evaluate(self, x, y):
        self.model.eval()
        loss = nn.functional.binary_cross_entropy_with_logits(self.model(x), y).item()
        self.model.train()
        return loss


torch.manual_seed(0)
trainer = Trainer(UNet(), 3e-3)
for step in range(200):
    loss = trainer.step(*picture(BATCH))
print("train", loss, "eval", trainer.evaluate(*picture(64)))
