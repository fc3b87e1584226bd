"""LSTM one-step forecaster for a sum of seasonal components."""
import math
import torch
from torch import nn, optim
from torch.optim.lr_scheduler import ExponentialLR
from torch.utils.data import Dataset, DataLoader, random_split


class WindowDataset(Dataset):
    def __init__(self, length=900, window=24):
        t = torch.arange(length + window).float()
        series = torch.sin(2 * math.pi * t / 24) + 0.5 * torch.sin(2 * math.pi * t / 7) * torch.cos(2 * math.pi * t / 168)
        self.series = series + 0.1 * torch.randn(len(t))
        self.window = window

    def __len__(self):
        return len(self.series) - self.window

    def __getitem__(self, k):
        return self.series[k:k + self.window].unsqueeze(-1), self.series[k + self.window]


class Forecaster(nn.Module):
    def __init__(self, hidden=24):
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, batch_first=True)
        self.out = nn.Linear(hidden, 1)

    def forward(self, x):
        y, _ = self.lstm(x)
        return self.out(y[:, -1]).squeeze(-1)


def validate(model, loader, loss_fn):
    model.eval()
    with torch.no_grad():
        losses = [loss_fn(model(x), y) for x, y in loader]
    return torch.stack(losses).mean().item()


def main():
    torch.manual_seed(31)
    data = WindowDataset()
    train_set, val_set = random_split(data, [720, 180])
    train_loader = DataLoader(train_set, batch_size=30, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=60)
    model = Forecaster()
    loss_fn = nn.MSELoss()
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    scheduler = ExponentialLR(optimizer, gamma=0.7)
    for epoch in range(10):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
        scheduler.step()
        print(f"Epoch {epoch}: last batch {loss.item():.4f}, validation {validate(model, val_loader, loss_fn):.4f}")


if __name__ == "__main__":
    main()
