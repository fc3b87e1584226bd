"""Forecast tomorrow's temperature from a week of station readings."""
import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import Dataset, DataLoader

np.random.seed(0)
torch.manual_seed(0)


def station(days=1500):
    t = np.arange(days)
    temp = 12 + 9 * np.sin(2 * np.pi * t / 365) + np.cumsum(np.random.randn(days)) * 0.15 + np.random.randn(days)
    pressure = 101325 + 900 * np.sin(2 * np.pi * t / 11) + 250 * np.random.randn(days)
    humid = np.clip(60 - 1.5 * (temp - 12) + 6 * np.random.randn(days), 5, 100)
    temp[1:] += 0.003 * (pressure[:-1] - 101325)
    return np.stack([temp, pressure, humid], 1)


class Windows(Dataset):
    def __init__(self, series, length=7):
        self.s = torch.tensor(series, dtype=torch.float32)
        self.y = (self.s[:, 0] - self.s[:, 0].mean()) / self.s[:, 0].std()
        self.length = length

    def __len__(self):
        return len(self.s) - self.length

    def __getitem__(self, i):
        return self.s[i:i + self.length], self.y[i + self.length]


class Forecaster(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 32, batch_first=True)
        self.head = nn.Linear(32, 1)

    def forward(self, x):
        _, (h, _) = self.lstm(x)
        return self.head(h[-1]).squeeze(-1)


series = station()
dl = DataLoader(Windows(series[:1200]), batch_size=64, shuffle=True)
net = Forecaster()
optim = torch.optim.Adam(net.parameters(), lr=5e-3)
for epoch in range(10):
    losses = []
    for xb, yb in dl:
        loss = nn.functional.mse_loss(net(xb), yb)
        optim.zero_grad()
        loss.backward()
        optim.step()
        losses.append(loss.item())
    print(f"epoch {epoch} mse {np.mean(losses):.4f}")
