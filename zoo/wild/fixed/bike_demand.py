"""Hourly rental demand from calendar and weather columns."""
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

rng = np.random.default_rng(99)
torch.manual_seed(99)


def weather_table(n=4000):
    hours = np.arange(n)
    stamp = 1.6e6 + 3.6 * hours
    tod = hours % 24
    temp = 12 + 9 * np.sin(2 * np.pi * (hours % 8760) / 8760) + 4 * np.sin(2 * np.pi * (tod - 8) / 24) + rng.normal(0, 1.5, n)
    pressure = 101325 + np.cumsum(rng.normal(0, 15, n))
    rain = rng.gamma(0.3, 1.0, n)
    demand = 3 + 1.5 * np.sin(2 * np.pi * (tod - 9) / 24) + 0.08 * temp - 0.5 * np.tanh(rain) + rng.normal(0, 0.2, n)
    cols = np.stack([stamp, np.sin(2 * np.pi * tod / 24), np.cos(2 * np.pi * tod / 24), temp, pressure, rain], 1)
    return cols, demand


class DemandModel(nn.Module):
    def __init__(self, features, width=48):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(features, width), nn.SiLU(),
            nn.Linear(width, width), nn.SiLU(),
        )
        self.out = nn.Linear(width, 1)

    def forward(self, row):
        return self.out(self.trunk(row)).squeeze(1)


table, demand = weather_table()
order = rng.permutation(len(table))
train_rows, valid_rows = order[:3200], order[3200:]
table = (table - table[train_rows].mean(0)) / table[train_rows].std(0)
X = torch.as_tensor(table, dtype=torch.float32)
y = torch.as_tensor(demand - demand[train_rows].mean(), dtype=torch.float32)
loader = DataLoader(TensorDataset(X[train_rows], y[train_rows]), batch_size=64, shuffle=True)

model = DemandModel(X.shape[1])
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(1, 13):
    losses = []
    for features, target in loader:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(features), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        valid = nn.functional.mse_loss(model(X[valid_rows]), y[valid_rows]).item()
    print(f"epoch {epoch:2d}  train {np.mean(losses):12.4f}  valid {valid:12.4f}  (variance {y.var().item():.3f})")
