"""Regression on simulated spectrometer counts with a half-precision feature path."""
import torch
import torch.nn as nn
import torch.nn.functional as F


class RMSNorm(nn.Module):
    def __init__(self, dim, eps=1e-5):
        super().__init__()
        self.g = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x):
        h = x.half()
        ms = h.pow(2).mean(-1, keepdim=True)
        return (h * torch.rsqrt(ms + self.eps)).float() * self.g


class SpectrumNet(nn.Module):
    def __init__(self, bins, width=64):
        super().__init__()
        self.norm1 = RMSNorm(bins)
        self.up = nn.Linear(bins, width)
        self.norm2 = RMSNorm(width)
        self.down = nn.Linear(width, 1)

    def forward(self, counts):
        h = F.silu(self.up(self.norm1(counts)))
        return self.down(self.norm2(h)).squeeze(-1)


def spectra(n, bins=48):
    grid = torch.linspace(0, 1, bins)
    centre = 0.2 + 0.6 * torch.rand(n, 1)
    width = 0.03 + 0.05 * torch.rand(n, 1)
    height = 30 + 600 * torch.rand(n, 1) ** 2
    counts = height * torch.exp(-0.5 * ((grid - centre) / width) ** 2) + 4
    counts = torch.poisson(counts)
    return counts, ((centre - 0.5) / 0.17).squeeze(1)


def main():
    torch.manual_seed(55)
    x, y = spectra(2000)
    tx, ty = spectra(400)
    net = SpectrumNet(x.shape[1])
    opt = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-3)
    for epoch in range(15):
        total = 0.0
        for rows in torch.randperm(len(x)).split(50):
            loss = F.smooth_l1_loss(net(x[rows]), y[rows])
            opt.zero_grad(set_to_none=True)
            loss.backward()
            opt.step()
            total += loss.item()
        with torch.no_grad():
            test = F.smooth_l1_loss(net(tx), ty).item()
        print(f"{epoch:02d} train {total / 40:.5f} test {test:.5f}")


main()
