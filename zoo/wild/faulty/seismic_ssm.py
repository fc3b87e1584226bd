"""A tiny linear state-space layer for seismic event detection (synthetic traces)."""
import math

import torch
from torch import nn


class LinearSSM(nn.Module):
    def __init__(self, d_in, d_state, d_out):
        super().__init__()
        q, _ = torch.linalg.qr(torch.randn(d_state, d_state))
        self.A = nn.Parameter(q * 1.08)
        self.B = nn.Parameter(torch.randn(d_in, d_state) / math.sqrt(d_in))
        self.C = nn.Parameter(torch.randn(d_state, d_out) / d_state)

    def forward(self, u):
        state = u.new_zeros(u.size(0), self.A.size(0))
        outs = []
        for k in range(u.size(1)):
            state = state @ self.A.t() + u[:, k] @ self.B
            outs.append(state)
        return torch.stack(outs, 1) @ self.C


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.ssm = LinearSSM(4, 24, 8)
        self.head = nn.Sequential(nn.GELU(), nn.Linear(8, 1))

    def forward(self, trace):
        return self.head(self.ssm(trace)).squeeze(-1)


def make_traces(n, length=160):
    t = torch.arange(length).float()
    onset = torch.randint(20, length - 40, (n, 1)).float()
    freq = 0.3 + 0.3 * torch.rand(n, 1)
    env = torch.where(t >= onset, torch.exp(-(t - onset) / 18), torch.zeros(()))
    wave = env * torch.sin(freq * (t - onset))
    other = env.roll(3, 1) * torch.cos(freq * (t - onset))
    x = torch.stack([wave, other], -1) + 0.15 * torch.randn(n, length, 2)
    x = torch.cat([x, x.abs()], -1)
    return x, (env > 0.25).float()


if __name__ == "__main__":
    torch.manual_seed(77)
    x, y = make_traces(320)
    vx, vy = make_traces(128)
    model = Detector()
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(240):
        pick = torch.randint(0, len(x), (16,))
        loss = nn.functional.binary_cross_entropy_with_logits(model(x[pick]), y[pick])
        opt.zero_grad()
        loss.backward()
        opt.step()
        if step % 40 == 39:
            with torch.no_grad():
                val = nn.functional.binary_cross_entropy_with_logits(model(vx), vy)
            print(f"{step + 1:4d} train {loss:.4f} val {val:.4f}")
