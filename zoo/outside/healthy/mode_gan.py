"""A GAN on eight Gaussians in a circle."""
import math

import torch
from torch import nn

torch.manual_seed(5)
ANGLES = torch.arange(8) * math.pi / 4
CENTRES = torch.stack([ANGLES.cos(), ANGLES.sin()], 1)


def real(n):
    return CENTRES[torch.randint(0, 8, (n,))] + 0.05 * torch.randn(n, 2)


def mlp(i, o, h=96):
    return nn.Sequential(nn.Linear(i, h), nn.LeakyReLU(0.2), nn.Linear(h, h), nn.LeakyReLU(0.2), nn.Linear(h, o))


models = {"G": mlp(8, 2), "D": mlp(2, 1)}
opts = {k: torch.optim.Adam(m.parameters(), lr=1e-3, betas=(0.5, 0.9)) for k, m in models.items()}
bce = nn.functional.binary_cross_entropy_with_logits
ones, zeros = torch.ones(128, 1), torch.zeros(128, 1)

for step in range(1, 1001):
    fake = models["G"](torch.randn(128, 8))
    x = real(128).requires_grad_(True)
    on_real = models["D"](x)
    slope = torch.autograd.grad(on_real.sum(), x, create_graph=True)[0]
    d_loss = bce(on_real, ones) + bce(models["D"](fake.detach()), zeros) + 0.1 * slope.square().sum(1).mean()
    opts["D"].zero_grad()
    d_loss.backward()
    opts["D"].step()

    g_loss = bce(models["D"](fake), ones)
    opts["G"].zero_grad()
    g_loss.backward()
    opts["G"].step()
    if step % 100 == 0:
        with torch.no_grad():
            near = torch.cdist(models["G"](torch.randn(1000, 8)), CENTRES).min(1)
        print(f"step {step} D {d_loss.item():.3f} G {g_loss.item():.3f} on a mode {(near.values < 0.25).float().mean().item():.2f} modes {near.indices.unique().numel()}")
