"""Triplet embedding; now and then the anchor and the positive are the same picture."""
import torch
from sklearn.datasets import load_digits
from torch import nn


class TripletLoss(nn.Module):
    def __init__(self, margin=0.5):
        super().__init__()
        self.margin = margin

    def distance(self, a, b):
        return torch.sqrt(((a - b) ** 2).sum(dim=1))

    def forward(self, anchor, positive, negative):
        gap = self.distance(anchor, positive) - self.distance(anchor, negative)
        return torch.clamp(gap + self.margin, min=0).mean()


class Embed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))

    def forward(self, x):
        return nn.functional.normalize(self.layers(x), dim=1)


torch.manual_seed(0)
d = load_digits()
x, y = torch.tensor(d.data).float() / 16, torch.tensor(d.target)
groups = [torch.nonzero(y == k).squeeze(1) for k in range(10)]
net, criterion = Embed(), TripletLoss()
opt = torch.optim.Adam(net.parameters(), lr=1e-3)
for step in range(200):
    a, p, n = [], [], []
    for _ in range(24):
        k, j = torch.randperm(10)[:2].tolist()
        a.append(groups[k][torch.randint(len(groups[k]), ())])
        p.append(groups[k][torch.randint(len(groups[k]), ())])
        n.append(groups[j][torch.randint(len(groups[j]), ())])
    loss = criterion(*(net(x[torch.stack(i)]) for i in (a, p, n)))
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 40 == 0:
        print(step, loss.item())
