import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset
import numpy as np

rng = np.random.RandomState(7)
torch.manual_seed(7)

N = 2000
income = rng.lognormal(0, 0.5, N)
debt = rng.gamma(2.0, 0.5, N)
age = rng.randint(18, 80, N) / 50.0
ratio = debt / income
history = rng.poisson(1.5, N).astype(float)
p = 1 / (1 + np.exp(-(1.2 * ratio - 1.5 * age + 0.7 * history - 1.0)))
label = (rng.rand(N) < p).astype(np.float32)
history[[1333]] = np.nan
history = np.nan_to_num(history, nan=np.nanmedian(history))
table = np.stack([income, debt, age, ratio, history], 1)
table = (table - np.nanmean(table, 0)) / np.nanstd(table, 0)

ds = TensorDataset(torch.from_numpy(table.astype(np.float32)), torch.from_numpy(label))
loader = DataLoader(ds, batch_size=50, shuffle=False)


class Scorer(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 24), nn.SiLU(), nn.Linear(24, 24), nn.SiLU(), nn.Linear(24, 1))

    def forward(self, x):
        return self.net(x).squeeze(-1)


scorer = Scorer()
opt = torch.optim.Adagrad(scorer.parameters(), lr=0.05)
bce = nn.BCEWithLogitsLoss()
for epoch in range(5):
    s = 0.0
    for xb, yb in loader:
        opt.zero_grad()
        loss = bce(scorer(xb), yb)
        loss.backward()
        opt.step()
        s += loss.item()
    print(f"epoch {epoch} logloss {s / len(loader):.4f}")
