"""Classify tones by band energies, computed by a learned filter bank."""
import math

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)


class BandEnergy(nn.Module):
    """Sums the squared filter responses over time."""

    def forward(self, x):
        return x.pow(2).sum(dim=-1)


class ToneNet(nn.Module):
    def __init__(self, bands=16, classes=4):
        super().__init__()
        self.filters = nn.Conv1d(1, bands, 32, stride=2, bias=False)
        self.energy = BandEnergy()
        self.norm = nn.LayerNorm(bands)
        self.fc = nn.Linear(bands, classes)

    def forward(self, x):
        return self.fc(self.norm(self.energy(self.filters(x))))


def tones(n=12, length=512):
    label = torch.randint(0, 4, (n,))
    t = torch.arange(length).float()
    wave = torch.sin(2 * math.pi * (0.03 + 0.05 * label.float()).unsqueeze(1) * t + 6.28 * torch.rand(n, 1))
    return 25 * (wave + 0.5 * torch.randn(n, length)).unsqueeze(1), label


dtype = torch.float32
model = ToneNet().to(dtype)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for step in range(80):
    x, y = tones()
    logits = model(x.to(dtype)).float()
    loss = F.cross_entropy(logits, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 10 == 0 or step == 79:
        print(f"step {step} loss {loss.item():.4f}")
