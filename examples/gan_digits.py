"""A small GAN on the 8x8 digits: two networks, two optimizers, the non-saturating loss."""
import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

SHADES = " .:-=+*#%@"


class Generator(nn.Module):
    def __init__(self, latent_dim, hidden=128):
        super().__init__()
        self.latent_dim = latent_dim
        self.net = nn.Sequential(
            nn.Linear(latent_dim, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(True),
            nn.Linear(hidden, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(True),
            nn.Linear(hidden, 64),
            nn.Tanh(),
        )

    def forward(self, z):
        return self.net(z)


class Discriminator(nn.Module):
    def __init__(self, hidden=128, dropout=0.3):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(64, hidden),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, 1),
        )

    def forward(self, x):
        return self.net(x).squeeze(1)


def load_images():
    images = torch.tensor(load_digits().data, dtype=torch.float32)
    return images / 8.0 - 1.0  # [0, 16] to [-1, 1]


def show(images):
    rows = ((images.view(-1, 8, 8) + 1) / 2 * (len(SHADES) - 1)).round().long()
    for y in range(8):
        print("   ".join("".join(SHADES[v] for v in image[y]) for image in rows.tolist()))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--steps", type=int, default=None, help="stop after this many batches")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--latent-dim", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images = load_images()
    loader = DataLoader(TensorDataset(images), batch_size=args.batch_size, shuffle=True, drop_last=True)

    netG = Generator(args.latent_dim).to(device)
    netD = Discriminator().to(device)
    criterion = nn.BCEWithLogitsLoss()
    optG = torch.optim.Adam(netG.parameters(), lr=args.lr, betas=(0.5, 0.999))
    optD = torch.optim.Adam(netD.parameters(), lr=2 * args.lr, betas=(0.5, 0.999))
    fixed_noise = torch.randn(6, args.latent_dim, device=device)

    step = 0
    for epoch in range(args.epochs):
        sum_d = sum_g = right = seen = 0.0
        for (real,) in loader:
            if step == args.steps:
                break
            step += 1
            real = real.to(device)
            ones = torch.full((len(real),), 0.9, device=device)  # one-sided label smoothing
            zeros = torch.zeros(len(real), device=device)

            # discriminator: log D(x) + log(1 - D(G(z)))
            fake = netG(torch.randn(len(real), args.latent_dim, device=device))
            optD.zero_grad()
            out_real, out_fake = netD(real), netD(fake.detach())
            loss_d = criterion(out_real, ones) + criterion(out_fake, zeros)
            loss_d.backward()
            optD.step()

            # generator: log D(G(z))
            optG.zero_grad()
            loss_g = criterion(netD(fake), torch.ones_like(zeros))
            loss_g.backward()
            optG.step()

            sum_d, sum_g, seen = sum_d + loss_d.item(), sum_g + loss_g.item(), seen + 1
            right += ((out_real > 0).float().mean() + (out_fake < 0).float().mean()).item() / 2
        if seen and (epoch % 10 == 0 or epoch == args.epochs - 1 or step == args.steps):
            print(f"epoch {epoch:3d}  loss D {sum_d / seen:.3f}  loss G {sum_g / seen:.3f}  D right {right / seen:.2f}")
        if step == args.steps:
            break

    netG.eval()
    with torch.no_grad():
        samples = netG(torch.randn(1000, args.latent_dim, device=device)).cpu()
        gap = (samples.mean(0) - images.mean(0)).abs().mean()
        print(f"mean pixel gap to the data {gap:.3f}, pixel std {samples.std(0).mean():.3f} (data {images.std(0).mean():.3f})")
        show(netG(fixed_noise).cpu())


if __name__ == "__main__":
    main()
