# RealNVP on two moons
import math
import torch
import torch.nn as nn
from sklearn.datasets import make_moons

torch.manual_seed(291)
X = torch.tensor(make_moons(2000, noise=0.07, random_state=1)[0], dtype=torch.float32)
X = (X - X.mean(0)) / X.std(0)


class Coupling(nn.Module):
    def __init__(self, flip, h=48):
        super().__init__()
        self.flip = flip
        self.st = nn.Sequential(nn.Linear(1, h), nn.Tanh(), nn.Linear(h, h), nn.Tanh(), nn.Linear(h, 2))

    def forward(self, x):
        a, b = x[:, :1], x[:, 1:]
        if self.flip:
            a, b = b, a
        s, t = self.st(a).chunk(2, 1)
        s = torch.tanh(s) * 2
        b = b * s.exp() + t
        return (torch.cat([b, a], 1) if self.flip else torch.cat([a, b], 1)), s.squeeze(1)


class RealNVP(nn.Module):
    def __init__(self, n=6):
        super().__init__()
        self.layers = nn.ModuleList([Coupling(k % 2 == 1) for k in range(n)])

    def log_prob(self, x):
        ld = 0
        for l in self.layers:
            x, s = l(x)
            ld = ld + s
        return -0.5 * (x ** 2).sum(1) - math.log(2 * math.pi) + ld


flow = RealNVP()
opt = torch.optim.Adam(flow.parameters(), lr=3e-3, weight_decay=1e-5)
for it in range(301):
    xb = X[torch.randint(0, 1800, (100,))]
    nll = -flow.log_prob(xb).mean()
    opt.zero_grad()
    nll.backward()
    opt.step()
    if it % 50 == 0:
        with torch.no_grad():
            print(f"it {it} nll {nll.item():.4f} heldout {-flow.log_prob(X[1800:]).mean().item():.4f}")
