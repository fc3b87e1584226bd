"""Predict loan defaults from a synthetic credit table."""
import argparse

import torch
from sklearn.datasets import make_classification
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class CreditNet(nn.Module):
    def __init__(self, n_in, width):
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(n_in, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.score = nn.Linear(width, 1)

    def forward(self, x):
        return self.score(self.hidden(x)).squeeze(-1)


def parse_args():
    p = argparse.ArgumentParser()
    p.add_argument("--width", type=int, default=48)
    p.add_argument("--lr", type=float, default=6.0)
    p.add_argument("--momentum", type=float, default=0.9)
    p.add_argument("--epochs", type=int, default=8)
    return p.parse_args()


def main():
    args = parse_args()
    torch.manual_seed(3)
    x, y = make_classification(n_samples=2000, n_features=20, n_informative=8, random_state=3)
    data = TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32))
    loader = DataLoader(data, batch_size=64, shuffle=True)
    model = CreditNet(20, args.width)
    opt = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=args.momentum)
    criterion = nn.BCEWithLogitsLoss()
    for epoch in range(args.epochs):
        total = 0.0
        for xb, yb in loader:
            opt.zero_grad()
            loss = criterion(model(xb), yb)
            loss.backward()
            opt.step()
            total += loss.item()
        print(f"epoch {epoch} loss {total / len(loader):.4f}")


if __name__ == "__main__":
    main()
