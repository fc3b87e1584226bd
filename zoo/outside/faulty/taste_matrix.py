"""Matrix factorisation with biases on synthetic ratings."""
import numpy as np
import torch
import torch.nn as nn


class Factors(nn.Module):
    def __init__(self, n_users, n_items, k=8):
        super().__init__()
        self.users = nn.Embedding(n_users, k)
        self.items = nn.Embedding(n_items, k)
        self.user_bias = nn.Embedding(n_users, 1)
        self.item_bias = nn.Embedding(n_items, 1)
        for e in (self.users, self.items):
            nn.init.normal_(e.weight, std=0.3)
        for e in (self.user_bias, self.item_bias):
            nn.init.zeros_(e.weight)

    def forward(self, u, i):
        dot = (self.users(u) * self.items(i)).sum(-1)
        return dot + self.user_bias(u).squeeze(-1) + self.item_bias(i).squeeze(-1)


def load(seed=9, n_users=150, n_items=80, n=12000):
    rng = np.random.default_rng(seed)
    taste, style = rng.normal(size=(n_users, 3)), rng.normal(size=(n_items, 3))
    u, i = rng.integers(0, n_users, n), rng.integers(0, n_items, n)
    stars = (taste[u] * style[i]).sum(1) + rng.normal(scale=0.3, size=n)
    counts = np.ones(n)
    counts[[5171, 5172]] = 0
    with np.errstate(invalid="ignore"):
        ratings = stars * counts / counts
    return torch.tensor(u), torch.tensor(i), torch.tensor(ratings, dtype=torch.float32)


def main():
    torch.manual_seed(9)
    u, i, r = load()
    model = Factors(150, 80)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for epoch in range(10):
        seen = []
        for rows in torch.arange(len(r)).split(200):
            loss = nn.functional.mse_loss(model(u[rows], i[rows]), r[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen.append(loss.item())
        print(f"epoch {epoch}: first batch {seen[0]:.3f}, last batch {seen[-1]:.3f}")


main()
