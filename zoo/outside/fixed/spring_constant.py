import torch
from sklearn.datasets import make_friedman2
from torch import nn


class Experiment:
    def __init__(self, seed=1):
        torch.manual_seed(seed)
        X, y = make_friedman2(n_samples=1500, noise=5.0, random_state=seed)
        X, y = torch.from_numpy(X).float(), torch.from_numpy(y).float()
        self.X = (X - X.mean(0)) / X.std(0)
        self.y = (y - y.mean()) / y.std()
        self.net = nn.Sequential(nn.Linear(4, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))
        self.loss = nn.MSELoss()
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=3e-3, weight_decay=1e-4)

    def step(self, x, y):
        self.optimizer.zero_grad()
        loss = self.loss(self.net(x).squeeze(1), y)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def run(self, epochs=16):
        for epoch in range(epochs):
            losses = [self.step(self.X[rows], self.y[rows]) for rows in torch.randperm(1200).split(32)]
            if epoch % 3 == 0:
                print(f"epoch {epoch} loss {sum(losses) / len(losses):.4f}")
        with torch.no_grad():
            p = self.net(self.X[1200:]).flatten()
            r2 = 1 - ((p - self.y[1200:]) ** 2).mean() / self.y[1200:].var()
        print(f"R2 {r2.item():.3f}")


Experiment().run()
