import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn


class VAE(nn.Module):
    def __init__(self, hidden=96, latent=8):
        super().__init__()
        self.fc1 = nn.Linear(64, hidden)
        self.fc_mu = nn.Linear(hidden, latent)
        self.fc_var = nn.Linear(hidden, latent)
        self.fc3 = nn.Linear(latent, hidden)
        self.fc4 = nn.Linear(hidden, 64)

    def encode(self, x):
        h = F.relu(self.fc1(x))
        return self.fc_mu(h), self.fc_var(h)

    def forward(self, x):
        mu, logvar = self.encode(x)
        z = mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        return self.fc4(F.relu(self.fc3(z))), mu, logvar


def main():
    torch.manual_seed(0)
    x = torch.tensor(load_digits().data / 16, dtype=torch.float32)
    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for step in range(350):
        batch = x[torch.randint(0, len(x), (64,))]
        logits, mu, logvar = model(batch)
        rec = F.binary_cross_entropy_with_logits(logits, batch, reduction="sum") / len(batch)
        kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / len(batch)
        loss = rec + min(1.0, step / 150) * kld
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 35 == 0 or step == 349:
            print(f"step {step} loss {loss.item():.2f} rec {rec.item():.2f} kl {kld.item():.2f}")


if __name__ == "__main__":
    main()
