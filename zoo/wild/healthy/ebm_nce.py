"""Energy-based model with short-run Langevin sampling and a replay buffer."""
import random

import torch
from torch import nn


class Energy(nn.Module):
    def __init__(self, h=64):
        super().__init__()
        self.f = nn.Sequential(nn.Linear(2, h), nn.SiLU(), nn.Linear(h, h), nn.SiLU(), nn.Linear(h, 1))

    def forward(self, x):
        return self.f(x).squeeze(-1)


class Buffer:
    def __init__(self, size=600):
        self.x = torch.rand(size, 2) * 4 - 2

    def take(self, n):
        self.rows = torch.randint(0, len(self.x), (n,))
        x = self.x[self.rows].clone()
        fresh = torch.rand(n) < 0.1
        x[fresh] = torch.rand(int(fresh.sum()), 2) * 4 - 2
        return x

    def put(self, x):
        self.x[self.rows] = x


def langevin(energy, x, steps=8, step=0.05):
    for p in energy.parameters():
        p.requires_grad_(False)
    for _ in range(steps):
        x = x.detach().requires_grad_(True)
        g = torch.autograd.grad(energy(x).sum(), x)[0]
        x = (x - step * g + (2 * step * 0.05) ** 0.5 * torch.randn_like(x)).clamp(-2, 2)
    for p in energy.parameters():
        p.requires_grad_(True)
    return x.detach()


def data(n):
    sign = torch.randint(0, 2, (n, 1)).float() * 2 - 1
    return torch.cat([sign, 0.5 * sign], 1) + 0.15 * torch.randn(n, 2)


def main():
    random.seed(6)
    torch.manual_seed(6)
    energy, buffer = Energy(), Buffer()
    opt = torch.optim.Adam(energy.parameters(), lr=1e-3, betas=(0.0, 0.99))
    for step in range(1, 501):
        pos = data(96)
        neg = langevin(energy, buffer.take(96))
        buffer.put(neg)
        e_pos, e_neg = energy(pos), energy(neg)
        loss = e_pos.mean() - e_neg.mean() + 0.1 * (e_pos.square() + e_neg.square()).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        if step % 50 == 0:
            modes = torch.tensor([[1.0, 0.5], [-1.0, -0.5]])
            d = torch.cdist(buffer.x, modes).min(1).values.mean().item()
            print(f"step {step} loss {loss.item():+.4f} energies {e_pos.mean().item():+.3f} {e_neg.mean().item():+.3f} chain distance {d:.3f}")


main()
