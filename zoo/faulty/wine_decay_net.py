import torch
import torch.nn as nn
from sklearn.datasets import load_wine
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
wine = load_wine()
X = torch.tensor(wine.data, dtype=torch.float32)
X = (X - X.mean(0)) / X.std(0)
loader = DataLoader(TensorDataset(X, torch.tensor(wine.target)), batch_size=32, shuffle=True)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(13, 40)
        self.b = nn.Linear(40, 40)
        self.c = nn.Linear(40, 3)

    def forward(self, x):
        return self.c(torch.tanh(self.b(torch.tanh(self.a(x)))))


net = Net()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(
    net.parameters(),
    lr=0.1,
    weight_decay=1.0,
)
for epoch in range(30):
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = criterion(net(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item() / len(loader)
    if epoch % 3 == 2:
        print(f"epoch {epoch + 1} loss {total:.4f}")
