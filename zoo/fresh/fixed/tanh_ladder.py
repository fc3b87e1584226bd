"""Ladder of tanh units predicts tides; gates are scaled by a gain."""
import math

import torch
from torch import nn


class Rung(nn.Module):
    def __init__(self, width, gain):
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.gain = gain

    def forward(self, x):
        return torch.tanh(self.gain * self.linear(x))


class Ladder(nn.Module):
    def __init__(self, rungs=6, width=32, gain=1.5):
        super().__init__()
        self.start = nn.Linear(12, width)
        self.rungs = nn.Sequential(*(Rung(width, gain) for _ in range(rungs)))
        self.end = nn.Linear(width, 1)

    def forward(self, x):
        return self.end(self.rungs(torch.tanh(self.start(x))))


def tide(t):
    return torch.sin(2 * math.pi * t / 12.4) + 0.5 * torch.sin(2 * math.pi * t / 24.0)


torch.manual_seed(0)
model = Ladder()
opt = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
for step in range(250):
    t0 = 1000 * torch.rand(64, 1)
    x, y = tide(t0 + torch.arange(12.0)), tide(t0 + 12)
    loss = nn.functional.mse_loss(model(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 50 == 0:
        print(step, round(loss.item(), 4))
