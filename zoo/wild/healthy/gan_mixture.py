"""Non-saturating GAN, 2-D data."""
import math

import torch
from torch import nn, optim

nz, hidden, batch, niter = 8, 64, 128, 1400
torch.manual_seed(999)


def real_batch(n, modes=6):
    k = torch.randint(0, modes, (n,)).float() * 2 * math.pi / modes
    return torch.stack([k.cos(), k.sin()], 1) + 0.08 * torch.randn(n, 2)


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(nn.Linear(nz, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 2))

    def forward(self, z):
        return self.main(z)


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.main = nn.Sequential(nn.Linear(2, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1))

    def forward(self, x):
        return self.main(x).view(-1)


netG, netD = Generator(), Discriminator()
criterion = nn.BCEWithLogitsLoss()
optimizerD = optim.Adam(netD.parameters(), lr=2e-3, betas=(0.0, 0.9))
optimizerG = optim.Adam(netG.parameters(), lr=1e-3, betas=(0.0, 0.9))
ones, zeros = torch.ones(batch), torch.zeros(batch)


def sample_error(n=1000):
    with torch.no_grad():
        pts = netG(torch.randn(n, nz))
    return (pts.norm(dim=1) - 1).abs().mean().item()


for i in range(niter):
    # (1) discriminator
    netD.zero_grad()
    real = real_batch(batch)
    fake = netG(torch.randn(batch, nz))
    errD = criterion(netD(real), ones) + criterion(netD(fake.detach()), zeros)
    errD.backward()
    optimizerD.step()
    # (2) generator
    netG.zero_grad()
    errG = criterion(netD(fake), ones)
    errG.backward()
    optimizerG.step()
    if i % 100 == 99:
        print('[%d/%d] Loss_D: %.4f Loss_G: %.4f radius error %.4f' % (i + 1, niter, errD.item(), errG.item(), sample_error()))
