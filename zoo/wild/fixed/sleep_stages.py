"""Sleep-stage toy: heart rate, RR interval and skin temperature to stage."""
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class NightDataset(Dataset):
    MEANS = np.array([[52, 1150, 33.8], [58, 1030, 34.3], [66, 905, 34.0], [72, 840, 33.1]])

    def __init__(self, n, seed, stats=None):
        rng = np.random.default_rng(seed)
        self.y = rng.integers(0, 4, n)
        person = rng.normal(0, 1, (n, 1)) * np.array([3.0, 55.0, 0.2])
        self.x = self.MEANS[self.y] + person + rng.normal(0, 1, (n, 3)) * np.array([1.5, 20, 0.15])
        self.stats = stats or (self.x.mean(0), self.x.std(0))

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        row = (self.x[i] - self.stats[0]) / self.stats[1]
        return torch.tensor(row, dtype=torch.float32), int(self.y[i])


class StageNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh())
        self.stage = nn.Linear(32, 4)

    def forward(self, x):
        return self.stage(self.body(x))


def loop(model, loader, optimizer=None):
    total, hit, n = 0.0, 0, 0
    with torch.set_grad_enabled(optimizer is not None):
        for x, y in loader:
            out = model(x)
            loss = nn.functional.cross_entropy(out, y)
            if optimizer is not None:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            total, hit, n = total + loss.item() * len(y), hit + (out.argmax(1) == y).sum().item(), n + len(y)
    return total / n, hit / n


def main():
    torch.manual_seed(25)
    train = NightDataset(2000, 0)
    valid = NightDataset(500, 1, train.stats)
    model = StageNet()
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    for epoch in range(12):
        tl, ta = loop(model, DataLoader(train, 50, shuffle=True), opt)
        vl, va = loop(model, DataLoader(valid, 250))
        print(f"epoch {epoch + 1:2d}  loss {tl:.4f} acc {ta:.3f}  valid loss {vl:.4f} acc {va:.3f}")


if __name__ == "__main__":
    main()
