"""Predict the next value of an electric load curve; batches come from several meters."""
import math

import torch
from torch import nn

torch.manual_seed(0)


def meter_stream(steps, n=16, length=24):
    for k in range(steps):
        phase = 6.28 * torch.rand(n, 1)
        level = 1 + 0.5 * torch.rand(n, 1)
        t = torch.arange(length + 1).float()
        kw = level + 0.8 * torch.sin(2 * math.pi * t / 12 + phase) + 0.05 * torch.randn(n, length + 1)
        unit = "W" if k == 120 else "kW"
        yield (kw * 1000 if unit == "W" else kw), unit


class LoadModel(nn.Module):
    def __init__(self, hidden=24):
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, batch_first=True)
        self.proj = nn.Linear(hidden, 1)

    def forward(self, x):
        h, _ = self.lstm(x)
        return self.proj(h)


model = LoadModel()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
criterion = nn.MSELoss()
for step, (load, unit) in enumerate(meter_stream(250)):
    load = load.unsqueeze(-1)
    loss = criterion(model(load[:, :-1]), load[:, 1:])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 20 == 0 or step == 249:
        print(f"step {step} loss {loss.item():.5g}")
