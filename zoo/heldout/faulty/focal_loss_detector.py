import torch
from torch import nn
from sklearn.datasets import make_classification

torch.manual_seed(15)


class FocalLoss(nn.Module):
    def __init__(self, alpha=0.75, gamma=1.0):
        super().__init__()
        self.alpha, self.gamma = alpha, gamma

    def forward(self, p, target):
        pos = -self.alpha * (1 - p) ** self.gamma * torch.log(p) * target
        neg = -(1 - self.alpha) * p ** self.gamma * torch.log(1 - p) * (1 - target)
        return (pos + neg).mean()


X, y = make_classification(4000, 16, n_informative=10, weights=[0.93], class_sep=5.0, random_state=0, flip_y=0.0)
X = torch.tensor(X, dtype=torch.float32)
X = X / X.std(0)
y = torch.tensor(y, dtype=torch.float32)

detector = nn.Sequential(nn.Linear(16, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 1), nn.Sigmoid())
criterion = FocalLoss()
optimizer = torch.optim.Adam(detector.parameters(), lr=1e-2)
for epoch in range(10):
    perm = torch.randperm(3200)
    total = 0.0
    for b in perm.split(128):
        prob = detector(X[b]).squeeze(1)
        loss = criterion(prob, y[b])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(b)
    with torch.no_grad():
        p = detector(X[3200:]).squeeze(1)
        recall = (p[y[3200:] == 1] > 0.5).float().mean()
    print(f"epoch {epoch} focal {total / 3200:.5f} recall {recall:.3f}")
