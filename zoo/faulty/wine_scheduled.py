import torch
from sklearn.datasets import load_wine
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
wine = load_wine()
features = torch.tensor(wine.data, dtype=torch.float32)
features = (features - features.mean(0)) / features.std(0)
loader = DataLoader(TensorDataset(features, torch.tensor(wine.target)), batch_size=16, shuffle=True)


class WineNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden1 = nn.Linear(13, 32)
        self.hidden2 = nn.Linear(32, 32)
        self.output = nn.Linear(32, 3)

    def forward(self, x):
        x = torch.tanh(self.hidden1(x))
        x = torch.tanh(self.hidden2(x))
        return self.output(x)


net = WineNet()
optimizer = torch.optim.SGD(net.parameters(), lr=0.03)
scheduler = ExponentialLR(optimizer, gamma=0.85)
criterion = nn.CrossEntropyLoss()

for epoch in range(25):
    epoch_loss = 0.0
    for xb, yb in loader:
        optimizer.zero_grad()
        loss = criterion(net(xb), yb)
        loss.backward()
        optimizer.step()
        scheduler.step()
        epoch_loss += loss.item()
    print(f"epoch {epoch} loss {epoch_loss / len(loader):.4f}")
