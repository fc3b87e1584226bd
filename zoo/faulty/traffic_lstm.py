import argparse
import math

import torch
from torch import nn


class TrafficModel(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, num_layers=2, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.head(out[:, -1])


def series(length=2000):
    t = torch.arange(length).float()
    daily = torch.sin(2 * math.pi * t / 24)
    weekly = 0.5 * torch.sin(2 * math.pi * t / 168)
    s = daily + weekly + 0.1 * torch.randn(length)
    return (s - s.mean()) / s.std()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--window", type=int, default=24)
    p.add_argument("--steps", type=int, default=200)
    p.add_argument("--learning-rate", type=float, default=1e-6)
    args = p.parse_args()
    torch.manual_seed(9)
    s = series()
    model = TrafficModel()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate)
    criterion = nn.MSELoss()
    for step in range(args.steps):
        i = torch.randint(0, len(s) - args.window - 1, (32,))
        x = torch.stack([s[k:k + args.window] for k in i]).unsqueeze(-1)
        y = s[i + args.window].unsqueeze(-1)
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0 or step == args.steps - 1:
            print(f"step {step} loss {loss.item():.4f}")


if __name__ == "__main__":
    main()
