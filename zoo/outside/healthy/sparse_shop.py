"""Two-tower recommender with sparse embedding gradients (BPR loss)."""
import torch
from torch import nn

torch.manual_seed(9)
USERS, ITEMS, DIM = 600, 5000, 16
user_group = torch.randint(0, 10, (USERS,))
item_group = torch.randint(0, 10, (ITEMS,))
popular = torch.arange(ITEMS) < 400


class Towers(nn.Module):
    def __init__(self):
        super().__init__()
        self.user = nn.Embedding(USERS, DIM, sparse=True)
        self.item = nn.Embedding(ITEMS, DIM, sparse=True)
        self.mix = nn.Linear(DIM, DIM)
        nn.init.normal_(self.user.weight, std=0.1)
        nn.init.normal_(self.item.weight, std=0.1)

    def forward(self, u, i):
        return (self.mix(self.user(u)) * self.item(i)).sum(-1)


by_group = [torch.nonzero((item_group == g) & popular).flatten() for g in range(10)]


def batch(n=64):
    u = torch.randint(0, USERS, (n,))
    liked = torch.stack([by_group[g][torch.randint(0, len(by_group[g]), ())] for g in user_group[u].tolist()])
    return u, liked, torch.randint(0, 400, (n,))


net = Towers()
sparse = torch.optim.SparseAdam([net.user.weight, net.item.weight], lr=0.02)
dense = torch.optim.Adam(net.mix.parameters(), lr=0.005)
mean = 0.7
for step in range(1, 1201):
    u, good, other = batch()
    loss = -nn.functional.logsigmoid(net(u, good) - net(u, other)).mean()
    sparse.zero_grad()
    dense.zero_grad()
    loss.backward()
    sparse.step()
    dense.step()
    mean = 0.98 * mean + 0.02 * loss.item()
    if step % 200 == 0:
        print(f"step {step} bpr {mean:.4f}")
with torch.no_grad():
    u, good, other = batch(2000)
    print(f"pairs ranked rightly {(net(u, good) > net(u, other)).float().mean().item():.3f}")
