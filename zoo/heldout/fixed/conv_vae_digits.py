import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader

torch.manual_seed(161)
images = (torch.tensor(load_digits().images, dtype=torch.float32) / 16)[:, None]
loader = DataLoader(images[:1600], batch_size=64, shuffle=True)


class ConvVAE(nn.Module):
    def __init__(self, z=8):
        super().__init__()
        self.enc = nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Flatten())
        self.fc_mu, self.fc_logvar = nn.Linear(128, z), nn.Linear(128, z)
        self.fc_dec = nn.Linear(z, 128)
        self.dec = nn.Sequential(nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(16, 1, 4, 2, 1))

    def forward(self, x):
        h = self.enc(x)
        mu, logvar = self.fc_mu(h), self.fc_logvar(h)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        return self.dec(F.relu(self.fc_dec(z)).view(-1, 32, 2, 2)), mu, logvar


def vae_loss(logits, x, mu, logvar):
    bce = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return bce + kld


vae = ConvVAE()
opt = torch.optim.Adam(vae.parameters(), lr=2e-3)
for epoch in range(10):
    for x in loader:
        logits, mu, logvar = vae(x)
        loss = vae_loss(logits, x, mu, logvar)
        opt.zero_grad()
        loss.backward()
        opt.step()
    with torch.no_grad():
        logits, mu, _ = vae(images[1600:])
        mse = F.mse_loss(torch.sigmoid(logits), images[1600:]).item()
    print(f"epoch {epoch} loss {loss.item():.4f} recon mse {mse:.5f}")
