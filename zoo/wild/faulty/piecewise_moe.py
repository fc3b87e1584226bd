"""Soft mixture of experts on piecewise data."""
from dataclasses import dataclass, field

import torch
import torch.nn as nn


@dataclass
class MoEConfig:
    dim: int = 4
    n_experts: int = 6
    hidden: int = 24
    betas: tuple = field(default=(0.9, 0.99))
    lr: float = 3e-3
    steps: int = 700


class Expert(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.fc = nn.Linear(c.dim, c.hidden)
        self.out = nn.Linear(c.hidden, 1)

    def forward(self, x):
        return self.out(torch.tanh(self.fc(x)))


class SoftMoE(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.gate = nn.Linear(c.dim, c.n_experts)
        self.experts = [Expert(c) for _ in range(c.n_experts)]

    def forward(self, x):
        weight = self.gate(x).softmax(-1)
        out = torch.cat([e(x) for e in self.experts], -1)
        return (weight * out).sum(-1), weight


def piecewise(n, dim=4):
    x = torch.randn(n, dim)
    region = (x[:, 0] > 0).long() * 2 + (x[:, 1] > 0).long()
    slopes = torch.tensor([[1., 2, 0, -1], [-2, 0, 1, 1], [0, 1, -2, 1], [2, -1, 1, 0]])
    return x, (slopes[region] * x).sum(1) + 0.1 * torch.randn(n)


if __name__ == "__main__":
    c = MoEConfig()
    torch.manual_seed(18)
    model = SoftMoE(c)
    print("trainable parameters:", sum(p.numel() for p in model.parameters()))
    opt = torch.optim.Adam(model.parameters(), lr=c.lr, betas=c.betas)
    x_test, y_test = piecewise(1000)
    for step in range(c.steps):
        x, y = piecewise(128)
        pred, weight = model(x)
        balance = weight.mean(0).square().sum() * c.n_experts
        loss = (pred - y).square().mean() + 1e-3 * balance
        opt.zero_grad()
        loss.backward()
        opt.step()
        if step % 100 == 99:
            with torch.no_grad():
                test = (model(x_test)[0] - y_test).square().mean().item()
            print(f"step {step + 1} train {loss.item():.4f} test {test:.4f}")
