import math

import torch
import torch.nn as nn


class MDN(nn.Module):
    def __init__(self, n_in, n_out, k=6, h=64):
        super().__init__()
        self.k, self.d = k, n_out
        self.body = nn.Sequential(nn.Linear(n_in, h), nn.Tanh(), nn.Linear(h, h), nn.Tanh())
        self.logit, self.mu, self.log_sigma = nn.Linear(h, k), nn.Linear(h, k * n_out), nn.Linear(h, k)

    def nll(self, x, y):
        h = self.body(x)
        mu = self.mu(h).view(-1, self.k, self.d)
        log_sigma = self.log_sigma(h).clamp(-4.5, 2)
        sq = ((y[:, None] - mu) ** 2).sum(-1)
        log_n = -0.5 * sq * torch.exp(-2 * log_sigma) - self.d * (log_sigma + 0.5 * math.log(2 * math.pi))
        return -torch.logsumexp(self.logit(h).log_softmax(-1) + log_n, -1).mean()


def arm(n):
    q = torch.stack([torch.rand(n) * 2, (torch.rand(n) * 2 + 0.3) * (torch.randint(0, 2, (n,)) * 2 - 1)], 1)
    hand = torch.stack([q[:, 0].cos() + q.sum(1).cos(), q[:, 0].sin() + q.sum(1).sin()], 1)
    return hand, q


torch.manual_seed(24)
mdn = MDN(2, 2)
opt = torch.optim.Adam(mdn.parameters(), lr=3e-3)
sched = torch.optim.lr_scheduler.ExponentialLR(opt, 0.997)
for step in range(1, 901):
    loss = mdn.nll(*arm(128))
    opt.zero_grad()
    loss.backward()
    opt.step()
    sched.step()
    if step % 100 == 0:
        print(f"step {step} nll {loss.item():.4f}")
