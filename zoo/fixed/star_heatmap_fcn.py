"""Detect stars: predict a heatmap with one at the star centres."""
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)


class HeatmapNet(nn.Module):
    def __init__(self, ch=12):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, ch, 3, padding=1), nn.ReLU(),
            nn.Conv2d(ch, ch, 3, padding=1), nn.ReLU(),
            nn.Conv2d(ch, ch, 3, padding=1), nn.ReLU(),
        )
        self.heatmap = nn.Conv2d(ch, 1, 1)
        for m in self.modules():
            if m is self.heatmap:
                nn.init.constant_(m.bias, -4.6)         # start from a 1 % object probability

    def forward(self, x):
        return self.heatmap(self.backbone(x))


def sky(n=16, size=16, stars=3):
    image = 0.15 * torch.randn(n, 1, size, size)
    target = torch.zeros(n, 1, size, size)
    pos = torch.randint(1, size - 1, (n, stars, 2))
    for k in range(stars):
        row, col = pos[:, k, 0], pos[:, k, 1]
        target[torch.arange(n), 0, row, col] = 1
        for dr in (-1, 0, 1):
            for dc in (-1, 0, 1):
                image[torch.arange(n), 0, row + dr, col + dc] += 1.0 if dr == dc == 0 else 0.5
    return image, target


model = HeatmapNet()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for step in range(250):
    image, target = sky()
    loss = F.binary_cross_entropy_with_logits(model(image), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 25 == 0 or step == 249:
        print(f"step {step} loss {loss.item():.5f}")
