"""Siamese network with contrastive loss, pairs sampled on the fly."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(27)
D = load_digits()
X = torch.tensor(D.data, dtype=torch.float32) / 16
y = torch.tensor(D.target)
by_class = [torch.where(y[:1400] == c)[0] for c in range(10)]


def sample_pairs(n):
    a = torch.randint(0, 1400, (n,))
    same = torch.rand(n) < 0.5
    b = torch.empty(n, dtype=torch.long)
    for k in range(n):
        if same[k]:
            pool = by_class[int(y[a[k]])]
        else:
            pool = by_class[(int(y[a[k]]) + int(torch.randint(1, 10, (1,)))) % 10]
        b[k] = pool[torch.randint(0, len(pool), (1,))]
    return X[a], X[b], same.float()


class Embedder(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(64, 96), nn.Linear(96, 48), nn.Linear(48, 8)

    def forward(self, x):
        return self.fc3(F.relu(self.fc2(F.relu(self.fc1(x)))))


def contrastive(e1, e2, same, margin=1.5):
    d = torch.sqrt(((e1 - e2) ** 2).sum(1) + 1e-8)
    return (same * d ** 2 + (1 - same) * F.relu(margin - d) ** 2).mean()


net = Embedder()
opt = torch.optim.Adam(net.parameters(), lr=1e-3)
for step in range(1, 251):
    x1, x2, s = sample_pairs(64)
    loss = contrastive(net(x1), net(x2), s)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 25 == 0:
        print(f"step {step} contrastive loss {loss.item():.4f}")
