"""DeepSets regression: predict the spread of a point set."""
import argparse

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--width", type=int, default=64)
parser.add_argument("--init-std", type=float, default=1e-3)
parser.add_argument("--lr", type=float, default=0.05)
parser.add_argument("--epochs", type=int, default=12)
cfg = parser.parse_args()
torch.manual_seed(5)


class DeepSet(nn.Module):
    def __init__(self, d, w):
        super().__init__()
        self.phi = nn.Sequential(nn.Linear(d, w), nn.ReLU(), nn.Linear(w, w), nn.ReLU(), nn.Linear(w, w))
        self.rho = nn.Sequential(nn.Linear(w, w), nn.ReLU(), nn.Linear(w, w), nn.ReLU(), nn.Linear(w, 1))
        self.apply(self.reset)

    @staticmethod
    def reset(m):
        if isinstance(m, nn.Linear):
            nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
            nn.init.zeros_(m.bias)

    def forward(self, sets):
        return self.rho(self.phi(sets).mean(1)).squeeze(-1)


def build(n, points=12, d=3):
    scale = torch.rand(n, 1, 1) * 1.5 + 0.3
    centre = torch.randn(n, 1, d)
    pts = centre + scale * torch.randn(n, points, d)
    target = pts.std(1).mean(1)
    return pts, (target - target.mean()) / target.std()


x, y = build(2400)
train = DataLoader(TensorDataset(x[:2000], y[:2000]), batch_size=50, shuffle=True)
model = DeepSet(3, cfg.width)
optim = torch.optim.SGD(model.parameters(), lr=cfg.lr, momentum=0.9)
for epoch in range(1, cfg.epochs + 1):
    total = 0.0
    model.train()
    for bx, by in train:
        optim.zero_grad()
        loss = nn.functional.mse_loss(model(bx), by)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optim.step()
        total += loss.item() * len(bx)
    model.eval()
    with torch.no_grad():
        val = nn.functional.mse_loss(model(x[2000:]), y[2000:]).item()
    print(f"epoch {epoch} train {total / 2000:.4f} val {val:.4f}")
