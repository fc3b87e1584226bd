"""Classify the orientation of synthetic stripe textures."""
import math

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(7)


def make_batch(n=48, size=16, classes=4):
    label = torch.randint(0, classes, (n,))
    theta = label.float() * math.pi / classes + 0.1 * torch.randn(n)
    yy, xx = torch.meshgrid(torch.arange(size).float(), torch.arange(size).float(), indexing="ij")
    phase = torch.rand(n, 1, 1) * 6.28
    wave = torch.sin(1.2 * (xx * theta.cos().view(-1, 1, 1) + yy * theta.sin().view(-1, 1, 1)) + phase)
    return (wave + 0.3 * torch.randn(n, size, size)).unsqueeze(1), label


class TextureNet(nn.Module):
    def __init__(self, classes=4):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(),
            nn.Conv2d(12, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(),
            nn.Conv2d(24, 24, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
        )
        self.classifier = nn.Linear(96, classes)
        for m in self.features:
            if isinstance(m, nn.Conv2d):
                nn.init.xavier_uniform_(m.weight, gain=nn.init.calculate_gain("relu"))
                nn.init.zeros_(m.bias)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


model = TextureNet()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
for step in range(200):
    x, y = make_batch()
    loss = F.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 20 == 0 or step == 199:
        print(f"{step:4d}  loss {loss.item():.4f}")
