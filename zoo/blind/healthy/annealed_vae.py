import torch
from torch import nn


class VAE(nn.Module):
    def __init__(self, d=12, z=3):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(d, 40), nn.ELU(), nn.Linear(40, 2 * z))
        self.dec = nn.Sequential(nn.Linear(z, 40), nn.ELU(), nn.Linear(40, d))

    def forward(self, x):
        mu, logvar = self.enc(x).chunk(2, -1)
        z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
        kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(-1).mean()
        return self.dec(z), kl


torch.manual_seed(53)
mix = torch.randn(3, 12)
vae = VAE()
opt = torch.optim.Adam(vae.parameters(), lr=4e-3)
for step in range(240):
    x = torch.randn(64, 3) @ mix + 0.3 * torch.randn(64, 12)
    out, kl = vae(x)
    rec = (out - x).pow(2).sum(-1).mean()
    beta = min(1.0, max(0.0, (step - 80) / 120))
    loss = rec + beta * kl
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 30 == 29:
        print(f"step {step + 1} beta {beta:.2f} kl {kl.item():.2f} rec {rec.item():.2f} loss {loss.item():.3f}")
