"""VAE with linear KL warm-up."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(1003)
x_all = torch.tensor(load_digits().data, dtype=torch.float32) / 16


class VAE(nn.Module):
    def __init__(self, z=6):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(64, 96), nn.SiLU())
        self.mu, self.lv = nn.Linear(96, z), nn.Linear(96, z)
        self.dec = nn.Sequential(nn.Linear(z, 96), nn.SiLU(), nn.Linear(96, 64))

    def forward(self, x):
        h = self.enc(x)
        mu, lv = self.mu(h), self.lv(h)
        z = mu + (0.5 * lv).exp() * torch.randn_like(mu)
        return self.dec(z), mu, lv


vae = VAE()
opt = torch.optim.Adam(vae.parameters(), lr=3e-3)
EPOCHS, WARM = 18, 12
for epoch in range(EPOCHS):
    beta = min(1.0, max(0.0, (epoch - 3) / WARM))
    tot = rec_t = 0.0
    for idx in torch.randperm(1600).split(64):
        out, mu, lv = vae(x_all[idx])
        rec = F.binary_cross_entropy_with_logits(out, x_all[idx], reduction="none").sum(1).mean()
        kl = -0.5 * (1 + lv - mu ** 2 - lv.exp()).sum(1).mean()
        loss = rec + beta * kl
        opt.zero_grad()
        loss.backward()
        opt.step()
        tot += loss.item() / 25
        rec_t += rec.item() / 25
    if epoch % 2 == 0 or epoch == EPOCHS - 1:
        print(f"epoch {epoch} beta {beta:.2f} loss {tot:.3f} rec {rec_t:.3f} kl {kl.item():.3f}")
