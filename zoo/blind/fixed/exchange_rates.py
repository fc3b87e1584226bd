import numpy as np
import torch
from torch import nn

rng = np.random.default_rng(12)
torch.manual_seed(12)

# synthetic KRW/USD-like rate: trends that persist for a while, then turn
drift, rate = 0.0, [1300.0]
for day in range(3000):
    if rng.random() < 0.04:
        drift = rng.normal(0, 0.6)
    rate.append(rate[-1] + drift + 0.004 * (1300 - rate[-1]) + rng.normal(0, 0.35))
rate = np.array(rate, dtype=np.float32)


class Direction(nn.Module):
    def __init__(self, hidden=24):
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, batch_first=True)
        self.up = nn.Linear(hidden, 1)

    def forward(self, w):
        _, (h, _) = self.lstm(w)
        return self.up(h[-1]).squeeze(-1)


def windows(n=48, length=16):
    while True:
        start = rng.integers(0, len(rate) - length - 5, n)
        window = np.stack([rate[s:s + length] for s in start])
        last = window[:, -1:]
        future = np.array([rate[s + length + 4] for s in start])
        label = (future > last[:, 0]).astype(np.float32)
        yield torch.from_numpy((window - last) / 3)[..., None], torch.from_numpy(label)


model = Direction()
opt = torch.optim.Adam(model.parameters(), lr=5e-3)
bce = nn.BCEWithLogitsLoss()
book, feed = [], windows()
for step in range(240):
    w, up = next(feed)
    loss = bce(model(w), up)
    opt.zero_grad()
    loss.backward()
    opt.step()
    book.append(loss.item())
    if (step + 1) % 40 == 0:
        print(f"day {step + 1}: bce {np.mean(book[-40:]):.4f}")
