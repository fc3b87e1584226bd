"""Variational autoencoder for 8x8 digits."""
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)


class VAE(nn.Module):
    def __init__(self, latent=6):
        super().__init__()
        self.enc = nn.Linear(64, 96)
        self.mu, self.logvar = nn.Linear(96, latent), nn.Linear(96, latent)
        self.dec1, self.dec2 = nn.Linear(latent, 96), nn.Linear(96, 64)

    def forward(self, x):
        h = F.elu(self.enc(x))
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return self.dec2(F.elu(self.dec1(z))), mu, logvar

    def loss(self, x):
        logits, mu, logvar = self(x)
        rec = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
        kl = -0.5 * (1 + logvar - mu ** 2 - logvar.exp()).sum(1)
        return (rec + kl).mean()


x = torch.tensor(load_digits().data / 16, dtype=torch.float32)
vae = VAE()
optimizer = torch.optim.SGD(vae.parameters(), lr=0.005, momentum=0.9)
for step in range(400):
    loss = vae.loss(x[torch.randint(0, len(x), (64,))])
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_value_(vae.parameters(), 1e-5)
    optimizer.step()
    if step % 40 == 0 or step == 399:
        print(f"step {step} loss {loss.item():.3f}")
