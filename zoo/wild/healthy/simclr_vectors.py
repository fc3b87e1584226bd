"""Contrastive pretraining on digits, linear probe afterwards."""
import math

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import nn


class Augment:
    def __init__(self, p_drop=0.25, noise=0.3):
        self.p_drop, self.noise = p_drop, noise

    def __call__(self, img):
        dx, dy = np.random.randint(-1, 2, 2)
        out = torch.roll(img, (int(dx), int(dy)), (-2, -1))
        out = out * (torch.rand_like(out) > self.p_drop)
        return out + self.noise * torch.randn_like(out)


class Encoder(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, dim, 3, stride=2, padding=1), nn.ReLU())
        self.projector = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 16))

    def embed(self, x):
        return self.conv(x).mean((2, 3))

    def forward(self, x):
        return F.normalize(self.projector(self.embed(x)), dim=1)


def nt_xent(z1, z2, tau=0.3):
    z = torch.cat([z1, z2])
    sim = z @ z.t() / tau
    sim.fill_diagonal_(-1e9)
    n = len(z1)
    target = torch.cat([torch.arange(n, 2 * n), torch.arange(n)])
    return F.cross_entropy(sim, target)


def probe(enc, x, y, cut=1300):
    with torch.no_grad():
        f = enc.embed(x).numpy()
    clf = LogisticRegression(max_iter=300, C=10).fit(f[:cut], y[:cut])
    return clf.score(f[cut:], y[cut:])


if __name__ == "__main__":
    np.random.seed(0)
    torch.manual_seed(0)
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
    aug, enc = Augment(), Encoder()
    opt = torch.optim.Adam(enc.parameters(), lr=2e-3, weight_decay=1e-5)
    print(f"chance loss {math.log(255):.3f}, probe before {probe(enc, x, digits.target):.3f}")
    for epoch in range(20):
        total = []
        for rows in torch.randperm(1300)[:1280].split(128):
            loss = nt_xent(enc(aug(x[rows])), enc(aug(x[rows])))
            opt.zero_grad()
            loss.backward()
            opt.step()
            total.append(loss.item())
        if epoch % 4 == 3:
            print(f"epoch {epoch + 1} nt-xent {np.mean(total):.4f} probe {probe(enc, x, digits.target):.3f}")
