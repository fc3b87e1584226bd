from dataclasses import dataclass

import torch
from sklearn.datasets import make_friedman1
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


@dataclass
class Config:
    hidden: int = 200
    depth: int = 3
    lr: float = 1e-3
    epochs: int = 25
    batch: int = 64
    seed: int = 3


class Regressor(nn.Module):
    def __init__(self, cfg, n_features):
        super().__init__()
        mods = []
        width = n_features
        for _ in range(cfg.depth):
            mods += [nn.Linear(width, cfg.hidden), nn.Tanh()]
            width = cfg.hidden
        mods.append(nn.Linear(width, 1))
        self.body = nn.Sequential(*mods)
        self.apply(self._init)

    @staticmethod
    def _init(m):
        if isinstance(m, nn.Linear):
            nn.init.normal_(m.weight)
            nn.init.zeros_(m.bias)

    def forward(self, x):
        return self.body(x).squeeze(-1)


def main():
    cfg = Config()
    torch.manual_seed(cfg.seed)
    X, y = make_friedman1(n_samples=1600, n_features=10, noise=0.5, random_state=cfg.seed)
    X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
    y = torch.tensor((y - y.mean()) / y.std(), dtype=torch.float32)
    loader = DataLoader(TensorDataset(X[:1200], y[:1200]), batch_size=cfg.batch, shuffle=True)
    model = Regressor(cfg, 10)
    opt = torch.optim.Adam(model.parameters(), lr=cfg.lr)
    for epoch in range(cfg.epochs):
        total = 0.0
        for xb, yb in loader:
            opt.zero_grad()
            loss = nn.functional.mse_loss(model(xb), yb)
            loss.backward()
            opt.step()
            total += loss.item() * len(xb)
        if epoch % 4 == 0:
            print(f"epoch {epoch:2d}  train mse {total / 1200:.4f}")
    with torch.no_grad():
        print(f"test mse {nn.functional.mse_loss(model(X[1200:]), y[1200:]).item():.4f}")


if __name__ == "__main__":
    main()
