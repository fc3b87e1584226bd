"""Two-tower recommender on synthetic film ratings."""
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

DECAY = 0.5


class Ratings(Dataset):
    def __init__(self, users=200, films=120, n=8000):
        g = torch.Generator().manual_seed(0)
        u, f = torch.randn(users, 4, generator=g), torch.randn(films, 4, generator=g)
        self.user = torch.randint(0, users, (n,), generator=g)
        self.film = torch.randint(0, films, (n,), generator=g)
        self.stars = (u[self.user] * f[self.film]).sum(1) / 2 + 0.1 * torch.randn(n, generator=g)

    def __len__(self):
        return len(self.stars)

    def __getitem__(self, i):
        return {"user": self.user[i], "film": self.film[i], "stars": self.stars[i]}


def collate(rows):
    return {k: torch.stack([r[k] for r in rows]) for k in rows[0]}


class TwoTower(nn.Module):
    def __init__(self, users=200, films=120, dim=16):
        super().__init__()
        self.user_emb = nn.Embedding(users, dim)
        self.film_emb = nn.Embedding(films, dim)
        self.user_mlp = nn.Sequential(nn.Linear(dim, 32), nn.ReLU(), nn.Linear(32, dim))
        self.film_mlp = nn.Sequential(nn.Linear(dim, 32), nn.ReLU(), nn.Linear(32, dim))

    def forward(self, batch):
        u = self.user_mlp(self.user_emb(batch["user"]))
        f = self.film_mlp(self.film_emb(batch["film"]))
        return (u * f).sum(1)


torch.manual_seed(0)
loader = DataLoader(Ratings(), batch_size=128, shuffle=True, collate_fn=collate)
model = TwoTower()
opt = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=DECAY * 20)
for epoch in range(5):
    for batch in loader:
        loss = nn.functional.mse_loss(model(batch), batch["stars"])
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, round(loss.item(), 4))
