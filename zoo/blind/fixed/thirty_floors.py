import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import make_classification

torch.manual_seed(2)
X, y = make_classification(n_samples=800, n_features=24, n_informative=12, n_classes=4, n_clusters_per_class=2,
                           class_sep=1.6, random_state=2)
X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
y = torch.tensor(y)


class Floor(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc = nn.Linear(width, width)
        nn.init.kaiming_normal_(self.fc.weight, nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, h):
        return h + 0.1 * F.relu(self.fc(h))


class Tower(nn.Module):
    def __init__(self, n_floors=30, width=40):
        super().__init__()
        self.stem = nn.Linear(24, width)
        self.floors = nn.ModuleList([Floor(width) for _ in range(n_floors)])
        self.top = nn.Linear(width, 4)

    def forward(self, x):
        h = self.stem(x)
        for floor in self.floors:
            h = floor(h)
        return self.top(h)


tower = Tower()
optimizer = torch.optim.SGD(tower.parameters(), lr=0.02, momentum=0.9)
for epoch in range(6):
    perm = torch.randperm(800)
    losses = []
    for k in range(0, 800, 40):
        xb, yb = X[perm[k:k + 40]], y[perm[k:k + 40]]
        optimizer.zero_grad()
        loss = F.cross_entropy(tower(xb), yb)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print("epoch", epoch, "loss", sum(losses) / len(losses))
