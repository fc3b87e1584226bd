"""Activity recognition from three accelerometer axes."""
import argparse
import logging
import sys

import torch
import torch.nn as nn

logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(levelname)s %(message)s")
log = logging.getLogger("har")


def get_args():
    p = argparse.ArgumentParser()
    p.add_argument("--windows", type=int, default=1200)
    p.add_argument("--length", type=int, default=40)
    p.add_argument("--epochs", type=int, default=8)
    p.add_argument("--lr", type=float, default=2e-3)
    return p.parse_args()


def recordings(n, length):
    act = torch.randint(0, 4, (n,))
    t = torch.arange(length).float().view(1, 1, -1)
    speed = torch.tensor([0.15, 0.4, 0.8, 1.4])[act].view(-1, 1, 1)
    axis = torch.randn(n, 3, 1)
    x = axis * torch.sin(speed * t + 6.28 * torch.rand(n, 1, 1)) + 0.2 * torch.randn(n, 3, length)
    x = (x * 8).round().clamp(-16, 16) / 8
    stuck = torch.rand(n) < 0.004
    x[stuck, 2] = 1.0
    return x, act


def normalise(window):
    mean = window.mean(-1, keepdim=True)
    std = window.std(-1, keepdim=True)
    return (window - mean) / (std + 1e-6)


class HAR(nn.Module):
    def __init__(self, classes=4):
        super().__init__()
        self.stem = nn.Conv1d(3, 16, 5, padding=2)
        self.encoder = nn.Sequential(nn.GroupNorm(4, 16), nn.ReLU(), nn.Conv1d(16, 32, 5, stride=2), nn.ReLU())
        self.head = nn.Linear(32, classes)

    def forward(self, window):
        return self.head(self.encoder(self.stem(normalise(window))).mean(-1))


def main():
    a = get_args()
    torch.manual_seed(61)
    x, y = recordings(a.windows, a.length)
    n = int(0.8 * a.windows)
    model = HAR()
    opt = torch.optim.Adam(model.parameters(), lr=a.lr)
    sched = torch.optim.lr_scheduler.OneCycleLR(opt, a.lr, total_steps=a.epochs * (n // 32))
    for epoch in range(a.epochs):
        total = 0.0
        for rows in torch.randperm(n).split(32):
            loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
            opt.zero_grad()
            loss.backward()
            opt.step()
            sched.step()
            total += loss.item()
        with torch.no_grad():
            acc = (model(x[n:]).argmax(1) == y[n:]).float().mean().item()
        log.info("epoch %d loss %.4f acc %.3f", epoch, total / (n / 32), acc)


if __name__ == "__main__":
    main()
