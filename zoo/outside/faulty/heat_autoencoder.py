import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset


class Autoencoder(nn.Module):
    def __init__(self, n, code):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(n, 64), nn.LeakyReLU(0.1), nn.Linear(64, code))
        self.decoder = nn.Sequential(nn.Linear(code, 64), nn.LeakyReLU(0.1), nn.Linear(64, n))

    def forward(self, x):
        return self.decoder(self.encoder(x))


class Trainer:
    def __init__(self, model, loader, lr=0.1):
        self.model, self.loader = model, loader
        self.optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, step_size=4, gamma=0.3)
        self.loss_fn = nn.MSELoss()

    def train_epoch(self):
        total = 0
        for (x,) in self.loader:
            self.optimizer.zero_grad()
            loss = self.loss_fn(self.model(x), x)
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            total += loss.item()
        return total / len(self.loader)

    def fit(self, epochs):
        for epoch in range(epochs):
            print(f"epoch {epoch + 1}/{epochs} reconstruction {self.train_epoch():.5f}")


def heat_profiles(n, points=48):
    grid = torch.linspace(0, 1, points)
    coef = torch.randn(n, 5) / torch.arange(1, 6)
    basis = torch.stack([torch.sin((k + 1) * torch.pi * grid) for k in range(5)])
    return coef @ basis + 0.01 * torch.randn(n, points)


if __name__ == "__main__":
    torch.manual_seed(19)
    profiles = heat_profiles(1600)
    profiles = profiles / profiles.std()
    loader = DataLoader(TensorDataset(profiles), batch_size=40, shuffle=True)
    Trainer(Autoencoder(48, 5), loader).fit(12)
