"""Anomaly detector for periodic load curves: trains on normal days, scores the odd ones."""
import numpy as np
import torch
from sklearn.metrics import roc_auc_score


def load_curves(n, rng, odd=False):
    t = np.linspace(0, 2 * np.pi, 60)
    base = np.sin(t - rng.uniform(0, 0.6, (n, 1))) + 0.4 * np.sin(2 * t + rng.uniform(0, 1, (n, 1)))
    if odd:
        base += rng.choice([-1, 1], (n, 1)) * 0.8 * np.exp(-((t - rng.uniform(1, 5, (n, 1))) ** 2) / 0.2)
    return (base + rng.normal(0, 0.1, (n, 60))).astype(np.float32)


class AutoEncoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Linear(60, 32), torch.nn.ReLU(),
            torch.nn.Linear(32, 4), torch.nn.Linear(4, 32), torch.nn.ReLU(),
            torch.nn.Linear(32, 60),
        )

    def forward(self, x):
        return self.net(x)


class Detector:
    def __init__(self, lr=0.1, momentum=0.9, seed=0):
        torch.manual_seed(seed)
        self.model = AutoEncoder()
        self.optim = torch.optim.SGD(self.model.parameters(), lr=lr, momentum=momentum)
        self.criterion = torch.nn.MSELoss(reduction="mean")

    def fit(self, X, epochs=20, batch=64):
        X = torch.from_numpy(X)
        for epoch in range(epochs):
            total = 0.0
            for rows in torch.randperm(len(X)).split(batch):
                self.optim.zero_grad()
                loss = self.criterion(self.model(X[rows]), X[rows])
                loss.backward()
                self.optim.step()
                total += loss.item()
            if epoch % 4 == 3:
                print(f"epoch {epoch + 1} objective {total / len(X):.5f}")
        return self

    @torch.no_grad()
    def score(self, X):
        X = torch.from_numpy(X)
        return (self.model(X) - X).square().mean(1).nan_to_num(1e6).numpy()


rng = np.random.default_rng(12)
det = Detector().fit(load_curves(2000, rng))
normal, odd = det.score(load_curves(300, rng)), det.score(load_curves(300, rng, odd=True))
auc = roc_auc_score(np.r_[np.zeros(300), np.ones(300)], np.r_[normal, odd])
print(f"normal error {normal.mean():.4f} odd error {odd.mean():.4f} auc {auc:.4f}")
