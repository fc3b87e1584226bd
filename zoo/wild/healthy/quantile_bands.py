"""Quantile regression for electricity prices (synthetic)."""
import math

import torch
import torch.nn as nn


class PinballLoss(nn.Module):
    def __init__(self, quantiles):
        super().__init__()
        self.register_buffer("q", torch.tensor(quantiles))

    def forward(self, pred, y):
        err = y[:, None] - pred
        return torch.maximum(self.q * err, (self.q - 1) * err).mean()


class QuantileNet(nn.Module):
    def __init__(self, d, n_q):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(d, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU())
        self.base = nn.Linear(48, 1)
        self.gaps = nn.Linear(48, n_q - 1)

    def forward(self, x):
        h = self.trunk(x)
        gaps = nn.functional.softplus(self.gaps(h) - 3)
        return torch.cat([self.base(h), self.base(h) + gaps.cumsum(1)], 1)


def prices(n):
    hour = torch.rand(n) * 24
    load = torch.randn(n)
    wind = torch.rand(n)
    mean = 0.05 + 0.02 * torch.sin(hour * math.pi / 12) + 0.01 * load - 0.02 * wind
    noise = torch.distributions.StudentT(4.0).sample((n,)) * 0.004 * (1 + wind)
    feats = torch.stack([torch.sin(hour * math.pi / 12), torch.cos(hour * math.pi / 12), load, wind * 2 - 1], 1)
    return feats, mean + noise


if __name__ == "__main__":
    qs = [0.05, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 0.95]
    x, y = prices(4000)
    xt, yt = prices(1500)
    net, loss_fn = QuantileNet(4, len(qs)), PinballLoss(qs)
    opt = torch.optim.RMSprop(net.parameters(), lr=5e-4)
    sched = torch.optim.lr_scheduler.StepLR(opt, 8, gamma=0.3)
    for epoch in range(16):
        total = 0.0
        for rows in torch.randperm(len(x)).split(80):
            loss = loss_fn(net(x[rows]), y[rows])
            opt.zero_grad()
            loss.backward()
            opt.step()
            total += loss.item()
        sched.step()
        with torch.no_grad():
            p = net(xt)
            inside = ((yt > p[:, 0]) & (yt < p[:, -1])).float().mean().item()
        print(f"epoch {epoch + 1:2d} pinball {total / 50:.6f} test {loss_fn(p, yt).item():.6f} 90% band holds {inside:.3f}")
