"""SGDR on noisy regression with a residual MLP and snapshots."""
import copy

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts


class ResBlock(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.f = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d))

    def forward(self, x):
        return x + self.f(x)


def target(x):
    return torch.sin(2 * x[:, 0]) * x[:, 1] + torch.cos(x[:, 2] + x[:, 3]) + 0.3 * x[:, 4] ** 2


def main():
    torch.manual_seed(52)
    x, xt = torch.randn(2500, 6), torch.randn(600, 6)
    y, yt = target(x) + 0.15 * torch.randn(2500), target(xt)
    net = nn.Sequential(nn.Linear(6, 48), ResBlock(48), ResBlock(48), nn.Linear(48, 1), nn.Flatten(0))
    opt = torch.optim.SGD(net.parameters(), lr=0.06, momentum=0.9)
    sched = CosineAnnealingWarmRestarts(opt, T_0=5, T_mult=2, eta_min=1e-4)
    batches, snapshots = 2500 // 50, []
    for epoch in range(15):
        total = 0.0
        for b, rows in enumerate(torch.randperm(len(x)).split(50)):
            loss = nn.functional.mse_loss(net(x[rows]), y[rows])
            opt.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 2.0)
            opt.step()
            sched.step(epoch + (b + 1) / batches)
            total += loss.item()
        if epoch in (4, 14):
            snapshots.append(copy.deepcopy(net).eval())
        with torch.no_grad():
            test = nn.functional.mse_loss(net(xt), yt).item()
        print(f"epoch {epoch:2d} lr {opt.param_groups[0]['lr']:.5f} train {total / batches:.4f} test {test:.4f}")
    with torch.no_grad():
        vote = torch.stack([s(xt) for s in snapshots]).mean(0)
    print(f"snapshot ensemble {nn.functional.mse_loss(vote, yt).item():.4f}")


main()
