"""Next-hour tide forecast with a small dilated causal network."""
import math

import torch
from torch import nn
from torch.nn import functional as F


class CausalLevel(nn.Module):
    def __init__(self, c_in, c_out, dilation):
        super().__init__()
        self.pad = 2 * dilation
        self.conv = nn.Conv1d(c_in, c_out, 3, dilation=dilation)

    def forward(self, x):
        return F.gelu(self.conv(F.pad(x, (self.pad, 0))))


class TCN(nn.Module):
    def __init__(self, channels=24, depth=6):
        super().__init__()
        self.levels = nn.ModuleList([CausalLevel(1 if i == 0 else channels, channels, 2 ** (i % 4)) for i in range(depth)])
        self.readout = nn.Conv1d(channels, 1, 1)

    def forward(self, x):
        for level in self.levels:
            x = level(x)
        return self.readout(x)


def gauge(n):
    t = torch.arange(n, dtype=torch.float32)
    m2 = torch.sin(2 * math.pi * t / 12.42)
    s2 = 0.5 * torch.sin(2 * math.pi * t / 12.0 + 0.6)
    k1 = 0.4 * torch.sin(2 * math.pi * t / 23.93 + 1.3)
    return (m2 + s2 + k1 + 0.03 * torch.randn(n)) / 0.85


def windows(series, length, count):
    at = torch.randint(0, len(series) - length - 1, (count,))
    rows = at[:, None] + torch.arange(length + 1)
    chunk = series[rows]
    return chunk[:, None, :-1], chunk[:, None, 1:]


torch.manual_seed(8)
series = gauge(6000)
net = TCN()
opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
for it in range(400):
    x, y = windows(series, 64, 24)
    loss = F.mse_loss(net(x), y)
    opt.zero_grad(set_to_none=True)
    loss.backward()
    opt.step()
    if (it + 1) % 50 == 0:
        print(it + 1, f"{loss.item():.5f}")
