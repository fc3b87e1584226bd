"""A GAN that forges points on a ring."""
import math

import torch
from torch import nn


class Forger(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 2))

    def forward(self, z):
        return self.body(z)


class Judge(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))

    def forward(self, x):
        return self.body(x)


torch.manual_seed(2)
forger, judge = Forger(), Judge()
opt_f = torch.optim.Adam(forger.parameters(), lr=1e-3, betas=(0.5, 0.99))
opt_j = torch.optim.Adam(judge.parameters(), lr=1e-3, betas=(0.5, 0.99))
bce = nn.BCEWithLogitsLoss()
ones, zeros = torch.ones(96, 1), torch.zeros(96, 1)
for step in range(300):
    angle = 2 * math.pi * torch.rand(96, 1)
    real = torch.cat([angle.cos(), angle.sin()], 1) + 0.02 * torch.randn(96, 2)
    fake = forger(torch.randn(96, 8))

    loss_j = bce(judge(real), ones) + bce(judge(fake.detach()), zeros)
    opt_j.zero_grad()
    loss_j.backward()
    opt_j.step()

    loss_f = bce(judge(fake), ones)
    opt_f.zero_grad()
    loss_f.backward()
    opt_f.step()
    if step % 50 == 0:
        radius = fake.norm(dim=1)
        print(f"{step} judge {loss_j.item():.3f} forger {loss_f.item():.3f} radius {radius.mean():.2f}")
