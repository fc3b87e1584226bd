"""Center-point detector: where are the crosses in a noisy image? Focal loss on a heat map."""
import math

import torch
import torch.nn as nn

SIZE, PRIOR = 16, 0.01


class Detector(nn.Module):
    def __init__(self, c=16):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, c, 3, padding=1), nn.ReLU(),
            nn.Conv2d(c, c, 3, padding=1), nn.ReLU(),
            nn.Conv2d(c, c, 3, padding=1), nn.ReLU(),
        )
        self.heat = nn.Conv2d(c, 1, 1)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.constant_(m.bias, -math.log((1 - PRIOR) / PRIOR))

    def forward(self, x):
        return self.heat(self.trunk(x))[:, 0]


def focal(logits, target, gamma=2.0):
    p = logits.sigmoid()
    pos = -((1 - p) ** gamma) * nn.functional.logsigmoid(logits) * target
    neg = -(p**gamma) * nn.functional.logsigmoid(-logits) * (1 - target)
    return (pos + neg).sum() / target.sum().clamp(min=1)


def scenes(n):
    img = 0.3 * torch.randn(n, SIZE, SIZE)
    heat = torch.zeros(n, SIZE, SIZE)
    for k in range(n):
        for _ in range(2):
            y, x = torch.randint(2, SIZE - 2, (2,)).tolist()
            img[k, y - 1:y + 2, x] += 1.0
            img[k, y, x - 1:x + 2] += 1.0
            heat[k, y, x] = 1.0
    return img[:, None], heat


torch.manual_seed(37)
detector = Detector()
optimizer = torch.optim.Adam(detector.parameters(), lr=3e-3)
for step in range(250):
    images, heat = scenes(12)
    loss = focal(detector(images), heat)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 49:
        print(f"step {step + 1} focal {loss.item():.4f}")
with torch.no_grad():
    images, heat = scenes(100)
    score = detector(images)
    top = score.flatten(1).topk(2).indices
    print(f"centres found {heat.flatten(1).gather(1, top).mean().item():.3f}")
