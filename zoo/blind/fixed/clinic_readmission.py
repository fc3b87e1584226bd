import torch
import torch.nn as nn
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset


class PrintEpoch:
    def on_epoch_end(self, epoch, loss):
        print(f"[{epoch:02d}] mean loss {loss:.4f}")


class Trainer:
    def __init__(self, model, optimizer, criterion, callbacks=()):
        self.model, self.optimizer, self.criterion = model, optimizer, criterion
        self.callbacks = list(callbacks)

    def fit(self, loader, epochs):
        for epoch in range(epochs):
            self.model.train()
            seen = 0.0
            for x, y in loader:
                loss = self.criterion(self.model(x).squeeze(1), y)
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                seen += loss.item()
            for cb in self.callbacks:
                cb.on_epoch_end(epoch, seen / len(loader))


def build(d):
    return nn.Sequential(nn.Linear(d, 48), nn.LayerNorm(48), nn.ReLU(), nn.Linear(48, 24), nn.ReLU(), nn.Linear(24, 1))


torch.manual_seed(14)
bunch = load_breast_cancer()
features = torch.tensor(StandardScaler().fit_transform(bunch.data), dtype=torch.float32)
target = torch.tensor(bunch.target, dtype=torch.float32)
loader = DataLoader(TensorDataset(features, target), batch_size=24, shuffle=True, drop_last=True)
model = build(features.shape[1])
sgd = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
Trainer(model, sgd, nn.BCEWithLogitsLoss(), [PrintEpoch()]).fit(loader, 8)
