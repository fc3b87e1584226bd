"""Autoencoder for absorption spectra."""
import argparse

import torch
from torch import nn

ap = argparse.ArgumentParser()
ap.add_argument("--steps", type=int, default=300)
ap.add_argument("--batch", type=int, default=2)
ap.add_argument("--code", type=int, default=6)
args = ap.parse_args()
torch.manual_seed(0)


def spectra(n, length=60):
    axis = torch.linspace(0, 1, length)
    centre = 0.1 + 0.8 * torch.rand(n, 2, 1)
    height = 0.5 + torch.rand(n, 2, 1)
    return (height * torch.exp(-((axis - centre) / 0.06) ** 2)).sum(1) * 2


encoder = nn.Sequential(
    nn.Linear(60, 64), nn.BatchNorm1d(64), nn.ReLU(),
    nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(),
    nn.Linear(32, args.code),
)
decoder = nn.Sequential(nn.Linear(args.code, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 60))
parameters = list(encoder.parameters()) + list(decoder.parameters())
optimizer = torch.optim.Adam(parameters, lr=3e-3)
avg = 0.0
for step in range(1, args.steps + 1):
    x = spectra(args.batch)
    loss = (decoder(encoder(x)) - x).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    avg += loss.item()
    if step % 30 == 0:
        print(f"step {step} loss {avg / 30:.4f}")
        avg = 0.0
