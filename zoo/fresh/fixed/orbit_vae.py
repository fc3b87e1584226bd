"""VAE on noisy orbits; the encoder predicts a variance."""
import math

import torch
from torch import nn


class VAE(nn.Module):
    def __init__(self, n, z=3, width=64):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(n, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.mu = nn.Linear(width, z)
        self.var = nn.Linear(width, z)
        self.decoder = nn.Sequential(nn.Linear(z, width), nn.ReLU(), nn.Linear(width, n))

    def forward(self, x):
        h = self.encoder(x)
        mu = self.mu(h)
        var = nn.functional.softplus(self.var(h) + 1.0)
        z = mu + (var + 1e-12).sqrt() * torch.randn_like(mu)
        return self.decoder(z), mu, var


def elbo(x, recon, mu, var):
    fit = (x - recon).pow(2).sum(1)
    kl = 0.5 * (mu.pow(2) + var - 1 - torch.log(var)).sum(1)
    return (fit + 0.1 * kl).mean()


def orbits(n):
    phase = torch.rand(n, 1) * 2 * math.pi
    radius = 1 + torch.rand(n, 1)
    t = torch.linspace(0, 2 * math.pi, 16)
    return radius * torch.sin(t + phase) + 0.05 * torch.randn(n, 16)


def train(steps=300):
    torch.manual_seed(5)
    vae = VAE(16)
    optimizer = torch.optim.Adam(vae.parameters(), lr=3e-3)
    for step in range(steps):
        x = orbits(128)
        loss = elbo(x, *vae(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(step, loss.item())
    return vae


train()
