import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler

torch.manual_seed(40)


class WineNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(13, 32)
        self.fc2 = nn.Linear(32, 32)
        self.fc3 = nn.Linear(32, 3)

    def forward(self, x):
        x = torch.tanh(self.fc1(x))
        x = torch.tanh(self.fc2(x))
        return self.fc3(x)


wine = load_wine()
X = torch.tensor(wine.data, dtype=torch.float32)
y = torch.tensor(wine.target)
shuffle = torch.randperm(len(y))
train_idx, test_idx = shuffle[:130], shuffle[130:]

model = WineNet()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

for epoch in range(60):
    model.train()
    total = 0.0
    for chunk in train_idx[torch.randperm(130)].split(13):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(X[chunk]), y[chunk])
        loss.backward()
        optimizer.step()
        total += loss.item()
    if epoch % 10 == 0:
        print(f"Epoch {epoch}: {total / 10:.4f}")

model.eval()
with torch.no_grad():
    pred = model(X[test_idx]).argmax(dim=1)
    print(f"Test loss {F.cross_entropy(model(X[test_idx]), y[test_idx]).item():.4f} accuracy {(pred == y[test_idx]).float().mean().item():.3f}")
