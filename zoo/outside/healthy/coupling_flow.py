"""RealNVP on points near a sine curve."""
import math

import torch
from torch import nn

torch.manual_seed(3)


class Coupling(nn.Module):
    def __init__(self, flip, hidden=64):
        super().__init__()
        self.flip = flip
        self.net = nn.Sequential(nn.Linear(1, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 2))
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x):
        a, b = x.flip(1).chunk(2, 1) if self.flip else x.chunk(2, 1)
        s, t = self.net(a).chunk(2, 1)
        s = 2 * torch.tanh(s)
        b = b * s.exp() + t
        out = torch.cat([a, b], 1)
        return (out.flip(1) if self.flip else out), s.sum(1)


class Flow(nn.Module):
    def __init__(self, n=8):
        super().__init__()
        self.parts = nn.ModuleList(Coupling(bool(i % 2)) for i in range(n))

    def log_prob(self, x):
        total = 0.0
        for part in self.parts:
            x, logdet = part(x)
            total = total + logdet
        return total - 0.5 * (x**2).sum(1) - math.log(2 * math.pi)


def sample(n):
    u = torch.randn(n) * 0.7
    return torch.stack([u, torch.sin(3 * u) * 0.5 + 0.02 * torch.randn(n)], 1)


flow = Flow()
opt = torch.optim.Adam(flow.parameters(), lr=2e-3)
sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 600)
for step in range(1, 601):
    loss = -flow.log_prob(sample(256)).mean()
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
    opt.step()
    sched.step()
    if step % 100 == 0:
        print(f"step {step} nll {loss.item():.4f}")
with torch.no_grad():
    print(f"held-out nll {-flow.log_prob(sample(5000)).mean().item():.4f} (the entropy is about -1.43)")
