"""Sparse overcomplete autoencoder of absorption spectra (sums of a few Gaussian lines)."""
import torch
from torch import nn

torch.manual_seed(46)
POINTS, LINES, CODE = 60, 20, 64
axis = torch.linspace(0, 1, POINTS)
centres = torch.rand(LINES)
atoms = torch.exp(-((axis[None] - centres[:, None]) ** 2) / 0.002)


def spectra(n):
    amount = torch.rand(n, LINES) * (torch.rand(n, LINES) < 0.15)
    s = amount @ atoms + 0.01 * torch.randn(n, POINTS)
    return (s - 0.25) / 0.4


class SparseCode(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(POINTS, 96), nn.ReLU(), nn.Linear(96, CODE), nn.ReLU())
        self.decode = nn.Linear(CODE, POINTS)
        with torch.no_grad():
            self.encode[2].bias.fill_(-4.0)

    def forward(self, x):
        code = self.encode(x)
        return self.decode(code), code


net = SparseCode()
opt = torch.optim.Adam(net.parameters(), lr=1e-3)
for step in range(1, 601):
    x = spectra(64)
    out, code = net(x)
    loss = nn.functional.mse_loss(out, x) + 1e-4 * code.abs().mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 100 == 0:
        print(f"step {step} error share {nn.functional.mse_loss(out, x).item() / x.var(0).mean().item():.4f} active {(code > 0).float().mean().item():.3f}")
