"""DeepSurv on simulated patients."""
import torch
from torch import nn


def simulate(n, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 8, generator=g)
    hazard = torch.exp(0.9 * x[:, 0] - 0.7 * x[:, 1] * x[:, 2].sign() + 0.5 * x[:, 3])
    time = -torch.log(torch.rand(n, generator=g)) / hazard
    censor = -torch.log(torch.rand(n, generator=g)) * 0.25
    event = (time <= censor).float()
    return x, torch.minimum(time, censor), event


class DeepSurv(nn.Module):
    def __init__(self, d, h=32):
        super().__init__()
        self.risk = nn.Sequential(nn.Linear(d, h), nn.ReLU(), nn.Dropout(0.1), nn.Linear(h, 1, bias=False))

    def forward(self, x):
        return self.risk(x).squeeze(-1)


def partial_likelihood(risk, time, event):
    order = torch.argsort(time, descending=True)
    risk, event = risk[order], event[order]
    log_sum = torch.logcumsumexp(risk, 0)
    return -((risk - log_sum) * event).sum() / event.sum()


def concordance(risk, time, event):
    earlier = (time[:, None] < time[None, :]) & (event[:, None] > 0)
    right = (risk[:, None] > risk[None, :]) & earlier
    return (right.sum() / earlier.sum()).item()


def main():
    torch.manual_seed(17)
    x, t, e = simulate(800, 0)
    vx, vt, ve = simulate(300, 1)
    net = DeepSurv(8)
    opt = torch.optim.Adam(net.parameters(), lr=1e-3)
    for epoch in range(25):
        net.train()
        total = 0.0
        for rows in torch.randperm(len(x)).split(16):
            opt.zero_grad()
            loss = partial_likelihood(net(x[rows]), t[rows], e[rows])
            loss.backward()
            opt.step()
            total += loss.item()
        net.eval()
        with torch.no_grad():
            c = concordance(net(vx), vt, ve)
        if epoch % 4 == 0:
            print(f"epoch {epoch} loss {total / 50:.4f} c-index {c:.4f}")


main()
