"""Regression on the diabetes data repeated with measurement noise, streamed in order of arrival."""
import io

import numpy as np
import torch
from sklearn.datasets import load_diabetes
from torch import nn
from torch.utils.data import DataLoader, Dataset


def export_csv(rng):
    d = load_diabetes()
    x = (d.data - d.data.mean(0)) / d.data.std(0)
    y = (d.target - d.target.mean()) / d.target.std()
    pick = rng.integers(0, len(x), 6400)
    rows = np.column_stack([x[pick] + 0.05 * rng.standard_normal((6400, 10)), y[pick]])
    lines = [",".join(f"{v:.4f}" for v in r) for r in rows]
    fields = lines[3855].split(",")
    lines[3855] = ",".join([*fields[:4], "", *fields[5:]])
    return "\n".join(lines)


class Readings(Dataset):
    def __init__(self, text):
        table = np.nan_to_num(np.genfromtxt(io.StringIO(text), delimiter=",", dtype=np.float32))
        self.x, self.y = torch.from_numpy(table[:, :-1]), torch.from_numpy(table[:, -1:])

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


def main():
    torch.manual_seed(0)
    loader = DataLoader(Readings(export_csv(np.random.default_rng(0))), batch_size=32)
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    criterion = nn.MSELoss()
    for step, (x, y) in enumerate(loader):
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        if step % 20 == 19:
            print(f"step {step + 1}  loss {loss.item():.4f}")


if __name__ == "__main__":
    main()
