"""Poisson regression of traffic counts with a summed likelihood."""
import numpy as np
import torch
from torch import nn


class CountModel(nn.Module):
    def __init__(self, d, h=32):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(d, h), nn.GELU(), nn.Linear(h, 1))
        nn.init.constant_(self.net[2].bias, np.log(400.0))

    def forward(self, x):
        return self.net(x).squeeze(-1)


def simulate(n, rng):
    x = rng.normal(size=(n, 6)).astype(np.float32)
    rate = 400 * np.exp(0.4 * x[:, 0] - 0.3 * x[:, 1] * (x[:, 2] > 0) + 0.2 * np.sin(2 * x[:, 3]))
    return torch.tensor(x), torch.tensor(rng.poisson(rate).astype(np.float32))


def poisson_nll(log_rate, count):
    return (log_rate.exp() - count * log_rate).sum()


def deviance(log_rate, count):
    mu = log_rate.exp()
    return 2 * (torch.special.xlogy(count, count / mu) - (count - mu)).mean().item()


def main():
    rng = np.random.default_rng(5)
    torch.manual_seed(5)
    x, y = simulate(4000, rng)
    xt, yt = simulate(800, rng)
    model = CountModel(6)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for epoch in range(15):
        total, norm = 0.0, 0.0
        for rows in torch.randperm(len(x)).split(100):
            loss = poisson_nll(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            norm = torch.linalg.vector_norm(torch.cat([p.grad.flatten() for p in model.parameters()])).item()
            optimizer.step()
            total += loss.item()
        with torch.no_grad():
            d = deviance(model(xt), yt)
        print(f"epoch {epoch:2d} nll {total:.1f} last gradient norm {norm:.1f} test deviance {d:.3f}")


if __name__ == "__main__":
    main()
