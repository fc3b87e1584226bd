"""Tiny DDPM on a 2-D checkerboard-like set."""
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass
class DiffusionConfig:
    timesteps: int = 40
    beta_start: float = 1e-3
    beta_end: float = 0.2
    lr: float = 2e-3
    steps: int = 1000
    ema: float = 0.99


class NoiseNet(nn.Module):
    def __init__(self, T, h=64):
        super().__init__()
        self.time = nn.Embedding(T, h)
        self.inp = nn.Linear(2, h)
        self.mid = nn.ModuleList([nn.Linear(h, h) for _ in range(2)])
        self.out = nn.Linear(h, 2)

    def forward(self, x, t):
        h = F.silu(self.inp(x) + self.time(t))
        for layer in self.mid:
            h = h + F.silu(layer(h))
        return self.out(h)


class DDPM:
    def __init__(self, c):
        self.c = c
        beta = torch.linspace(c.beta_start, c.beta_end, c.timesteps)
        self.alpha, self.beta = 1 - beta, beta
        self.abar = self.alpha.cumprod(0)
        self.net = NoiseNet(c.timesteps)
        self.shadow = {k: v.clone() for k, v in self.net.state_dict().items()}

    def loss(self, x):
        t = torch.randint(0, self.c.timesteps, (len(x),))
        eps = torch.randn_like(x)
        a = self.abar[t, None]
        return F.mse_loss(self.net(a.sqrt() * x + (1 - a).sqrt() * eps, t), eps)

    def track(self):
        for k, v in self.net.state_dict().items():
            self.shadow[k].lerp_(v, 1 - self.c.ema)

    @torch.no_grad()
    def sample(self, n):
        net = NoiseNet(self.c.timesteps)
        net.load_state_dict(self.shadow)
        x = torch.randn(n, 2)
        for t in reversed(range(self.c.timesteps)):
            e = net(x, torch.full((n,), t))
            x = (x - self.beta[t] / (1 - self.abar[t]).sqrt() * e) / self.alpha[t].sqrt()
            if t:
                x = x + self.beta[t].sqrt() * torch.randn_like(x)
        return x


def clusters(n):
    centres = torch.tensor([[-1.2, -1.2], [1.2, -1.2], [0.0, 1.4], [0.0, 0.0]])
    return centres[torch.randint(0, 4, (n,))] + 0.1 * torch.randn(n, 2), centres


if __name__ == "__main__":
    c = DiffusionConfig()
    torch.manual_seed(73)
    ddpm = DDPM(c)
    opt = torch.optim.Adam(ddpm.net.parameters(), lr=c.lr)
    for step in range(1, c.steps + 1):
        x, centres = clusters(128)
        loss = ddpm.loss(x)
        opt.zero_grad()
        loss.backward()
        opt.step()
        ddpm.track()
        if step % 200 == 0:
            d = torch.cdist(ddpm.sample(500), centres).min(1).values.mean().item()
            print(f"step {step} loss {loss.item():.4f} mean distance of samples to a centre {d:.4f}")
