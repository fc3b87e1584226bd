"""GAN for points on a ring of radius 2."""
import math

import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
generator = nn.Sequential(nn.Linear(4, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 2))
discriminator = nn.Sequential(nn.Linear(2, 48), nn.LeakyReLU(0.2), nn.Linear(48, 48), nn.LeakyReLU(0.2),
                              nn.Linear(48, 1))
opt_g = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
opt_d = torch.optim.Adam(discriminator.parameters(), lr=1e-3, betas=(0.5, 0.999))


def real_points(n):
    a = 2 * math.pi * torch.rand(n, 1)
    return torch.cat([2 * a.cos(), 2 * a.sin()], 1) + 0.05 * torch.randn(n, 2)


for step in range(500):
    real = real_points(64)
    fake = generator(torch.randn(64, 4))

    d_loss = F.softplus(-discriminator(real)).mean() + F.softplus(discriminator(fake.detach())).mean()
    opt_d.zero_grad()
    d_loss.backward()
    opt_d.step()

    g_loss = F.softplus(-discriminator(fake.detach())).mean()
    opt_g.zero_grad()
    g_loss.backward()
    opt_g.step()

    if step % 50 == 0 or step == 499:
        off = (fake.detach().norm(dim=1) - 2).abs().mean().item()
        print(f"step {step} d_loss {d_loss.item():.3f} g_loss {g_loss.item():.3f} radius error {off:.3f}")
