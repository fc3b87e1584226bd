"""Noise-prediction on moons (a toy diffusion) with a hand-written learning-rate schedule."""
import math

import torch
from sklearn.datasets import make_moons
from torch import nn

TOTAL = 400


def make_schedule(base, warmup, decay_steps):
    def lr_at(step):
        if step < warmup:
            return base * (step + 1) / warmup
        progress = min(1.0, (step - warmup) / decay_steps)
        return 0.5 * base * (1 + math.cos(math.pi * progress))

    return lr_at


class Denoiser(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.time = nn.Linear(1, width)
        self.inp = nn.Linear(2, width)
        self.mid = nn.Linear(width, width)
        self.out = nn.Linear(width, 2)

    def forward(self, x, t):
        h = nn.functional.silu(self.inp(x) + self.time(t))
        h = h + nn.functional.silu(self.mid(h))
        return self.out(h)


torch.manual_seed(0)
data = torch.tensor(make_moons(2000, noise=0.05, random_state=0)[0]).float()
model = Denoiser()
opt = torch.optim.Adam(model.parameters(), lr=1e-3)
lr_at = make_schedule(3e-3, warmup=2, decay_steps=6)
for step in range(TOTAL):
    for group in opt.param_groups:
        group["lr"] = lr_at(step)
    x0 = data[torch.randint(0, 2000, (128,))]
    t = torch.rand(128, 1)
    noise = torch.randn_like(x0)
    xt = (1 - t) * x0 + t * noise
    loss = (model(xt, t) - (noise - x0)).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 80 == 0:
        print(step, round(loss.item(), 4))
