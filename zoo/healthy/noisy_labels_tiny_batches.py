"""Two classes with some annotation errors, learnt online in batches of four."""
import torch
from sklearn.datasets import make_moons
from torch import nn

torch.manual_seed(0)
X, y = make_moons(1600, noise=0.15, random_state=1)
X, y = torch.tensor(X, dtype=torch.float32), torch.tensor(y)
wrong = torch.rand(len(y)) < 0.15
observed = torch.where(wrong, 1 - y, y)

model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
criterion = nn.CrossEntropyLoss()
total = 0.0
for step in range(1, 801):
    idx = torch.randint(0, len(X), (4,))
    loss = criterion(model(X[idx]), observed[idx])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    total += loss.item()
    if step % 80 == 0:
        with torch.no_grad():
            acc = (model(X).argmax(1) == y).float().mean().item()
        print(f"step {step} loss {total / 80:.4f} accuracy on clean labels {acc:.3f}")
        total = 0.0
