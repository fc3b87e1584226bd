import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

np.random.seed(0)
torch.manual_seed(1007)
ITEMS, GROUPS = 5000, 10
used = np.random.choice(ITEMS, 300, replace=False)
group = np.arange(300) % GROUPS


def pairs(n):
    g = np.random.randint(0, GROUPS, n)
    a = g + GROUPS * np.random.randint(0, 30, n)
    b = g + GROUPS * np.random.randint(0, 30, n)
    neg = np.random.randint(0, 300, (n, 5))
    return (torch.from_numpy(used[v]) for v in (a, b, neg))


class SkipGram(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.inp = nn.Embedding(ITEMS, dim, sparse=True)
        self.outp = nn.Embedding(ITEMS, dim, sparse=True)
        nn.init.uniform_(self.inp.weight, -0.1, 0.1)
        nn.init.uniform_(self.outp.weight, -0.1, 0.1)

    def forward(self, a, b, neg):
        va = self.inp(a)
        pos = F.logsigmoid((va * self.outp(b)).sum(-1))
        ng = F.logsigmoid(-(self.outp(neg) @ va.unsqueeze(-1)).squeeze(-1)).sum(-1)
        return -(pos + ng).mean()


model = SkipGram()
opt = torch.optim.SparseAdam(list(model.parameters()), lr=0.01)
for it in range(301):
    loss = model(*pairs(256))
    opt.zero_grad()
    loss.backward()
    opt.step()
    if it % 50 == 0:
        print(f"it {it} loss {loss.item():.4f}")
