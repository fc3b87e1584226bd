"""VAE on the 8x8 digits."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


class VAE(nn.Module):
    def __init__(self, latent=8):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 2 * latent))
        self.dec = nn.Sequential(nn.Linear(latent, 128), nn.ReLU(), nn.Linear(128, 64))

    def forward(self, x):
        mu, logvar = self.enc(x).chunk(2, dim=1)
        z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
        return self.dec(z), mu, logvar


def elbo(logits, x, mu, logvar):
    recon = F.binary_cross_entropy_with_logits(logits, x)
    kl = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1).mean()
    return recon + kl


torch.manual_seed(64)
x = torch.tensor(load_digits().data / 16, dtype=torch.float32)
vae = VAE()
opt = torch.optim.Adam(vae.parameters(), lr=2e-3)
for epoch in range(30):
    for rows in torch.randperm(1600).split(64):
        batch = x[rows]
        logits, mu, logvar = vae(batch)
        loss = elbo(logits, batch, mu, logvar)
        opt.zero_grad()
        loss.backward()
        opt.step()
    if epoch % 6 == 5:
        print(f"epoch {epoch + 1} objective {loss.item():.4f}")
with torch.no_grad():
    logits, mu, _ = vae(x[1600:])
    mse = ((logits.sigmoid() - x[1600:]) ** 2).mean() / x[1600:].var(0).mean()
    print(f"reconstruction error as a share of the variance {mse.item():.3f}, spread of the code {mu.std(0).mean().item():.3f}")
