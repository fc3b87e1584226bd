"""RealNVP with affine coupling on crescents."""
import math

import torch
from torch import nn


class Coupling(nn.Module):
    def __init__(self, flip, h=32):
        super().__init__()
        self.flip = flip
        self.st = nn.Sequential(nn.Linear(1, h), nn.LeakyReLU(), nn.Linear(h, h), nn.LeakyReLU(), nn.Linear(h, 2))
        nn.init.zeros_(self.st[-1].weight)
        nn.init.zeros_(self.st[-1].bias)

    def forward(self, x):
        a, b = x.flip(1).split(1, 1) if self.flip else x.split(1, 1)
        s, t = self.st(a).split(1, 1)
        s = torch.tanh(s)
        b = b * s.exp() + t
        y = torch.cat([a, b], 1)
        return (y.flip(1) if self.flip else y), s.sum(1)


class RealNVP(nn.Module):
    def __init__(self, n=6):
        super().__init__()
        self.layers = nn.ModuleList([Coupling(i % 2 == 1) for i in range(n)])

    def log_prob(self, x):
        total = 0.0
        for layer in self.layers:
            x, logdet = layer(x)
            total = total + logdet
        return total - 0.5 * x.square().sum(1) - math.log(2 * math.pi)


def crescents(n):
    side = torch.randint(0, 2, (n,)).float()
    ang = math.pi * torch.rand(n)
    x = torch.cos(ang) + side - 0.5
    y = torch.where(side > 0, -torch.sin(ang) + 0.25, torch.sin(ang) - 0.25)
    return torch.stack([x, y], 1) * 1.4 + 0.08 * torch.randn(n, 2)


def main():
    torch.manual_seed(93)
    flow = RealNVP()
    opt = torch.optim.Adam(flow.parameters(), lr=2e-3)
    test = crescents(2000)
    for it in range(1, 801):
        loss = -flow.log_prob(crescents(128)).mean()
        opt.zero_grad(set_to_none=True)
        loss.backward()
        opt.step()
        if it % 100 == 0:
            with torch.no_grad():
                print(f"iter {it} nll {loss.item():.4f} test nll {-flow.log_prob(test).mean().item():.4f}")


main()
