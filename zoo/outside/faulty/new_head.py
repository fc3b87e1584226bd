"""Pre-trains on the digits 0-4, then moves to 5-9 with a fresh head and mostly frozen features."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 64), nn.ReLU())
        self.norm = nn.LayerNorm(64)
        self.fc = nn.Linear(64, classes)

    def forward(self, x):
        return self.fc(self.norm(self.backbone(x)))


def fit(net, optimizer, x, y, epochs, tag):
    for epoch in range(epochs):
        total, n = 0.0, 0
        for rows in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
            total, n = total + loss.item(), n + 1
        print(f"{tag} epoch {epoch} loss {total / n:.4f}")


torch.manual_seed(88)
d = load_digits()
x = torch.tensor(d.data / 16, dtype=torch.float32)
y = torch.tensor(d.target)
low, high = y < 5, y >= 5

net = Net(5)
fit(net, torch.optim.Adam(net.parameters(), lr=1e-3), x[low], y[low], 4, "source")

for p in net.backbone.parameters():
    p.requires_grad_(False)
optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.02, momentum=0.9)
net.fc = nn.Linear(64, 5)
fit(net, optimizer, x[high], y[high] - 5, 12, "target")
with torch.no_grad():
    print(f"target accuracy {(net(x[high]).argmax(1) + 5 == y[high]).float().mean().item():.3f}")
