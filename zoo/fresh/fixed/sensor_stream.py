"""A stream of sensor windows, predicted by a small TCN; one logger had a gap."""
import math
import random

import torch
from torch import nn


def windows(n_steps, batch=32, length=24):
    rng = random.Random(7)
    for step in range(n_steps):
        rows = []
        for _ in range(batch):
            phase, freq = rng.random() * 6.28, 0.2 + 0.3 * rng.random()
            rows.append([math.sin(freq * t + phase) + 0.05 * rng.gauss(0, 1) for t in range(length + 1)])
        series = torch.tensor(rows)
        if step == 120:
            series[5, 10] = 0.0
        yield series[:, :-1], series[:, -1]


class TCN(nn.Module):
    def __init__(self, ch=16):
        super().__init__()
        self.conv1 = nn.Conv1d(1, ch, 3, dilation=1)
        self.conv2 = nn.Conv1d(ch, ch, 3, dilation=2)
        self.conv3 = nn.Conv1d(ch, ch, 3, dilation=4)
        self.head = nn.Linear(ch, 1)

    def forward(self, x):
        x = x.unsqueeze(1)
        for conv in (self.conv1, self.conv2, self.conv3):
            x = nn.functional.silu(conv(x))
        return self.head(x[:, :, -1]).squeeze(1)


def main():
    torch.manual_seed(0)
    model = TCN()
    opt = torch.optim.NAdam(model.parameters(), lr=3e-3)
    for step, (x, y) in enumerate(windows(240)):
        loss = nn.functional.smooth_l1_loss(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        if step % 40 == 0:
            print(step, loss.item())
    print("done", loss.item())


main()
