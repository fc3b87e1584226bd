# Forecast the change of air pressure over the next hour from the last day of readings.
import math

import torch
from torch import nn

torch.manual_seed(2)


def readings(hours=3000):
    t = torch.arange(hours).float()
    drift = 8 * torch.sin(2 * math.pi * t / 90) + 3 * torch.sin(2 * math.pi * t / 37 + 1)
    return 1013.25 + drift + 0.2 * torch.randn(hours)


class Barometer(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.gru = nn.GRU(1, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x):
        _, h = self.gru(x)
        return self.head(h[-1])


pressure = readings()
inputs = pressure
model = Barometer()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
criterion = nn.MSELoss()
recent = []
for step in range(250):
    i = torch.randint(0, len(pressure) - 25, (32,))
    x = torch.stack([inputs[k:k + 24] for k in i]).unsqueeze(-1)
    y = (pressure[i + 24] - pressure[i + 23]).unsqueeze(-1)
    loss = criterion(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    recent.append(loss.item())
    if step % 25 == 24:
        print("step", step + 1, "loss", f"{sum(recent[-25:]) / 25:.4f}")
