"""A GAN on eight blobs whose losses go up and down."""
import math

import torch
from torch import nn

torch.manual_seed(0)
gen = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
disc = nn.Sequential(nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))
og = torch.optim.Adam(gen.parameters(), lr=5e-4, betas=(0.5, 0.999))
od = torch.optim.Adam(disc.parameters(), lr=1e-3, betas=(0.5, 0.999))
softplus = nn.functional.softplus
for step in range(350):
    k = torch.randint(0, 8, (128,)).float() * math.pi / 4
    real = torch.stack([k.cos(), k.sin()], 1) + 0.05 * torch.randn(128, 2)
    fake = gen(torch.randn(128, 6))
    ld = (softplus(-disc(real)) + softplus(disc(fake.detach()))).mean()
    od.zero_grad(); ld.backward(); od.step()
    lg = softplus(-disc(fake)).mean()
    og.zero_grad(); lg.backward(); og.step()
    if step % 50 == 0:
        print(step, ld.item(), lg.item())
