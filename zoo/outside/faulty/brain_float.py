import torch
from sklearn.datasets import make_regression
from torch import nn


class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.lin = nn.Linear(d, d)
        self.act = nn.SiLU()

    def forward(self, x):
        return x + self.act(self.lin(x))


def get_model():
    return nn.Sequential(nn.Linear(20, 64), Block(64), Block(64), Block(64), nn.Linear(64, 1))


torch.manual_seed(55)
X, y = make_regression(n_samples=2000, n_features=20, n_informative=12, noise=2.0, random_state=55)
X, y = torch.tensor(X, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
y = (y - y.mean()) / y.std()

model = get_model()
model = model.to(dtype=torch.bfloat16)
X = X.bfloat16()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

for epoch in range(20):
    total = 0.0
    for rows in torch.randperm(2000).split(40):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(X[rows]).float().squeeze(1), y[rows])
        loss.backward()
        optimizer.step()
        total += loss.item()
    if epoch % 3 == 1:
        print(f"epoch {epoch} loss {total / 50:.5f}")
