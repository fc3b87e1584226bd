import numpy as np
import torch
from torch import nn


class OneVsAllFocal(nn.Module):
    def __init__(self, gamma=0.5):
        super().__init__()
        self.gamma = gamma

    def forward(self, logits, target):
        p = torch.softmax(logits, 1)
        p = p.clamp(1e-6, 1 - 1e-6)
        hot = nn.functional.one_hot(target, logits.size(1)).float()
        pos = hot * (1 - p) ** self.gamma * torch.log(p)
        neg = (1 - hot) * p ** self.gamma * torch.log(1 - p)
        return -(pos + neg).sum(1).mean()


def rings(n, rng):
    y = rng.integers(0, 4, n)
    r = y + 0.12 * rng.standard_normal(n)
    a = rng.uniform(0, 2 * np.pi, n)
    x = np.stack([r * np.cos(a), r * np.sin(a), rng.standard_normal(n)], 1)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def evaluate(net, x, y):
    with torch.no_grad():
        return (net(x).argmax(1) == y).float().mean().item()


def main():
    rng = np.random.default_rng(44)
    torch.manual_seed(44)
    x, y = rings(3000, rng)
    xv, yv = rings(600, rng)
    net = nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    loss_fn = OneVsAllFocal()
    opt = torch.optim.RMSprop(net.parameters(), lr=1e-2)
    for step in range(600):
        i = rng.integers(0, len(x), 64)
        loss = loss_fn(net(x[i]), y[i])
        opt.zero_grad()
        loss.backward()
        opt.step()
        if (step + 1) % 60 == 0:
            print(f"step {step + 1:4d} loss {loss.item():.5f} valid acc {evaluate(net, xv, yv):.4f}")


main()
