"""Variational autoencoder on the 8x8 digits, with a linear warm-up of the KL term."""
import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset


class VAE(nn.Module):
    def __init__(self, latent=8, hidden=200):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.mu = nn.Linear(hidden, latent)
        self.logvar = nn.Linear(hidden, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 64)
        )
        self.latent = latent

    def encode(self, x):
        h = self.encoder(x)
        return self.mu(h), self.logvar(h)

    def reparameterize(self, mu, logvar):
        if not self.training:
            return mu
        return mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)

    def forward(self, x):
        mu, logvar = self.encode(x)
        return self.decoder(self.reparameterize(mu, logvar)), mu, logvar


def loss_terms(logits, x, mu, logvar):
    """Reconstruction and KL divergence from N(0, 1), both per image."""
    bce = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / len(x)
    return bce, kl


@torch.no_grad()
def evaluate(model, x):
    model.eval()
    logits, mu, logvar = model(x)
    bce, kl = loss_terms(logits, x, mu, logvar)
    model.train()
    return bce.item(), kl.item()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--steps", type=int, default=None, help="stop after this many updates")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--latent", type=int, default=8)
    parser.add_argument("--kl-warmup", type=int, default=20, help="epochs until the KL term has its full weight")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    X = torch.tensor(load_digits().data, dtype=torch.float32) / 16.0
    train, test = train_test_split(X, test_size=0.2, random_state=0)
    test = test.to(device)
    loader = DataLoader(TensorDataset(train), batch_size=args.batch_size, shuffle=True)

    model = VAE(args.latent).to(device)
    optimizer = optim.Adam(model.parameters(), lr=args.lr)

    step = 0
    for epoch in range(1, args.epochs + 1):
        beta = min(1.0, epoch / args.kl_warmup)
        sum_bce = sum_kl = batches = 0.0
        for (x,) in loader:
            if step == args.steps:
                break
            x = x.to(device)
            optimizer.zero_grad()
            logits, mu, logvar = model(x)
            bce, kl = loss_terms(logits, x, mu, logvar)
            loss = bce + beta * kl
            loss.backward()
            optimizer.step()
            sum_bce, sum_kl, batches, step = sum_bce + bce.item(), sum_kl + kl.item(), batches + 1, step + 1
        if batches and (epoch == 1 or epoch % 10 == 0 or step == args.steps):
            test_bce, test_kl = evaluate(model, test)
            print(
                f"epoch {epoch:3d}  beta {beta:.2f}  train bce {sum_bce / batches:.2f} kl {sum_kl / batches:.2f}"
                f"  test bce {test_bce:.2f} kl {test_kl:.2f} elbo {-test_bce - test_kl:.2f}"
            )
        if step == args.steps:
            break

    model.eval()
    with torch.no_grad():
        sample = torch.sigmoid(model.decoder(torch.randn(256, args.latent, device=device)))
        print(f"samples: mean intensity {sample.mean():.3f} (data {X.mean():.3f}), std over samples {sample.std(0).mean():.3f}")


if __name__ == "__main__":
    main()
