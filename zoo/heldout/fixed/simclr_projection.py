"""Contrastive pre-training (InfoNCE) on digits + linear probe."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

torch.manual_seed(261)
D = load_digits()
X = torch.tensor(D.data, dtype=torch.float32) / 16


def augment(x):
    img = x.view(-1, 8, 8)
    dx, dy = torch.randint(-1, 2, (2,)).tolist()
    img = torch.roll(img, (dx, dy), (1, 2))
    keep = (torch.rand(len(img), 8, 8) > 0.10).float()
    return (img * keep + 0.08 * torch.randn_like(img)).flatten(1)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.f = nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 12), nn.BatchNorm1d(12), nn.ReLU())
        self.g = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 16))

    @torch.no_grad()
    def embed(self, x):
        return self.f(x)

    def forward(self, x):
        return F.normalize(self.g(self.f(x)), dim=1)


def info_nce(z1, z2, tau=0.2):
    z = torch.cat([z1, z2])
    sim = z @ z.t() / tau
    sim.fill_diagonal_(-1e4)
    n = len(z1)
    return F.cross_entropy(sim, torch.cat([torch.arange(n, 2 * n), torch.arange(n)]))


net = Encoder()
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
for epoch in range(16):
    net.train()
    for idx in torch.randperm(1400).split(100):
        loss = info_nce(net(augment(X[idx])), net(augment(X[idx])))
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(f"epoch {epoch} infonce {loss.item():.4f}")
net.eval()
h = net.embed(X).numpy()
clf = LogisticRegression(max_iter=300).fit(h[:1400], D.target[:1400])
print(f"linear probe acc {clf.score(h[1400:], D.target[1400:]):.3f} infonce {loss.item():.4f}")
