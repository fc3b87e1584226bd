import argparse

import torch
import torch.nn as nn
from sklearn.datasets import load_digits


class Tower(nn.Module):
    """Constant resolution, constant width, then average pooling."""

    def __init__(self, width, depth, classes):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.blocks = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth))
        self.fc = nn.Linear(width * 4, classes)

    def forward(self, x):
        h = torch.relu(self.stem(x))
        for block in self.blocks:
            h = torch.relu(block(h))
        return self.fc(nn.functional.adaptive_avg_pool2d(h, 2).flatten(1))


def parse():
    p = argparse.ArgumentParser()
    p.add_argument("--width", type=int, default=12)
    p.add_argument("--depth", type=int, default=20)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--epochs", type=int, default=7)
    p.add_argument("--batch-size", type=int, default=64)
    p.add_argument("--seed", type=int, default=17)
    return p.parse_args()


def main(args):
    torch.manual_seed(args.seed)
    data = load_digits()
    x = torch.tensor(data.images / 16.0, dtype=torch.float32)[:, None]
    x = (x - x.mean()) / x.std()
    y = torch.tensor(data.target)
    n_train = 1400
    model = Tower(args.width, args.depth, 10)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)
    step = 0
    for epoch in range(args.epochs):
        for idx in torch.randperm(n_train).split(args.batch_size):
            loss = nn.functional.cross_entropy(model(x[idx]), y[idx])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 40 == 0:
                print(f"step {step} loss {loss.item():.4f}")
            step += 1
    model.eval()
    with torch.no_grad():
        print(f"accuracy {(model(x[n_train:]).argmax(1) == y[n_train:]).float().mean().item():.3f}")


if __name__ == "__main__":
    main(parse())
