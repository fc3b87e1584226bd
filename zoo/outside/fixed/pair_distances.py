"""Metric learning: embed digits so that classes form clusters (all pairs of a batch, contrastive margin loss)."""
import torch
from sklearn.datasets import load_digits
from torch import nn


def pairwise(z):
    sq = ((z[:, None] - z[None]) ** 2).sum(-1)
    return torch.sqrt(sq.clamp(min=1e-9))


def contrastive(dist, same, margin=2.0):
    off = ~torch.eye(len(dist), dtype=torch.bool)
    pull = dist[same & off] ** 2
    push = torch.relu(margin - dist[~same]) ** 2
    return pull.mean() + push.mean()


torch.manual_seed(14)
digits = load_digits()
x = torch.tensor(digits.data, dtype=torch.float32) / 16
y = torch.tensor(digits.target)
embed = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 6))
opt = torch.optim.Adam(embed.parameters(), lr=1e-3)

for step in range(300):
    rows = torch.randint(0, 1400, (48,))
    z = embed(x[rows])
    dist = pairwise(z)
    loss = contrastive(dist, y[rows][:, None] == y[rows][None])
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 50 == 0:
        print(f"step {step}: contrastive {loss.item():.4f}")

with torch.no_grad():
    bank, query = embed(x[:1400]), embed(x[1400:])
    guess = y[torch.cdist(query, bank).argmin(1)]
    print(f"nearest-neighbour accuracy {(guess == y[1400:]).float().mean().item():.3f}")
