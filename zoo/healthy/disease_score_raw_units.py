"""Disease score (25 to 346 points) from ten standardised measurements."""
import torch
from sklearn.datasets import load_diabetes
from torch import nn

torch.manual_seed(0)
d = load_diabetes()
X = torch.tensor((d.data - d.data.mean(0)) / d.data.std(0), dtype=torch.float32)
y = torch.tensor(d.target, dtype=torch.float32).view(-1, 1)

model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
criterion = nn.MSELoss()
for epoch in range(40):
    total = 0.0
    for idx in torch.randperm(len(X)).split(64):
        loss = criterion(model(X[idx]), y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(idx)
    if epoch % 4 == 3:
        print(f"epoch {epoch + 1} loss {total / len(X):.1f}")
