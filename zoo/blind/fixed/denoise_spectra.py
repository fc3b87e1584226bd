from collections import OrderedDict
import math
import torch
import torch.nn as nn

SQUASH = nn.SiLU


def tower(*dims, final=True):
    parts = OrderedDict()
    for i, (a, b) in enumerate(zip(dims, dims[1:])):
        parts[f"fc{i}"] = nn.Linear(a, b)
        nn.init.xavier_uniform_(parts[f"fc{i}"].weight)
        if final or i < len(dims) - 2:
            parts[f"act{i}"] = SQUASH()
    return nn.Sequential(parts)


class Denoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc = tower(64, 56, 48, 32, 16)
        self.dec = tower(16, 32, 48, 56, 64, final=False)

    def forward(self, noisy):
        return self.dec(self.enc(noisy))


def spectra(batch):
    """absorption-like spectra: three Gaussian lines, random height and place"""
    grid = torch.linspace(-1, 1, 64)
    while True:
        place = torch.rand(batch, 3, 1) * 1.6 - 0.8
        height = torch.rand(batch, 3, 1) * 2 + 0.5
        clean = (height * torch.exp(-((grid - place) / 0.25) ** 2)).sum(1) - 1.0
        yield clean + 0.2 * torch.randn_like(clean), clean


torch.manual_seed(21)
model = Denoiser()
optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.997)
stream = spectra(40)
for step in range(1, 281):
    noisy, clean = next(stream)
    loss = (model(noisy) - clean).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
    if step % 40 == 0:
        print("step %4d  lr %.4f  mse %.4f" % (step, scheduler.get_last_lr()[0], loss.item()))
