import numpy as np
import torch
from torch import nn

rng = np.random.default_rng(0)
torch.manual_seed(0)

n_users, n_movies, k_true = 150, 120, 4
P = rng.normal(size=(n_users, k_true)) / 2
Q = rng.normal(size=(n_movies, k_true))
R = 3.5 + P @ Q.T + 0.2 * rng.normal(size=(n_users, n_movies))
u, m = np.meshgrid(np.arange(n_users), np.arange(n_movies), indexing="ij")
mask = rng.random((n_users, n_movies)) < 0.35
users = torch.tensor(u[mask]); movies = torch.tensor(m[mask])
ratings = torch.tensor(R[mask], dtype=torch.float32)


class MF(nn.Module):
    def __init__(self, dim=12):
        super().__init__()
        self.user_emb = nn.Embedding(n_users, dim)
        self.item_emb = nn.Embedding(n_movies, dim)
        self.user_bias = nn.Embedding(n_users, 1)
        self.item_bias = nn.Embedding(n_movies, 1)
        self.mu = nn.Parameter(torch.tensor(3.5))
        for e in (self.user_emb, self.item_emb):
            nn.init.normal_(e.weight, std=0.3)
        for e in (self.user_bias, self.item_bias):
            nn.init.zeros_(e.weight)

    def forward(self, u, i):
        dot = (self.user_emb(u) * self.item_emb(i)).sum(-1)
        return self.mu + dot + self.user_bias(u).squeeze(-1) + self.item_bias(i).squeeze(-1)


model = MF()
opt = torch.optim.SGD(model.parameters(), lr=0.006)
crit = nn.MSELoss(reduction="sum")
B = 128
for epoch in range(20):
    idx = torch.randperm(len(ratings))
    se = 0.0
    for s in range(0, len(idx), B):
        j = idx[s:s + B]
        loss = crit(model(users[j], movies[j]), ratings[j])
        opt.zero_grad()
        loss.backward()
        opt.step()
        se += loss.item()
    print(f"epoch {epoch + 1} train mse {se / len(ratings):.4f}")
