"""Logistic regression on the breast-cancer data."""
import torch
import torch.nn.functional as F
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler

torch.manual_seed(0)
data = load_breast_cancer()
X = data.data
X = StandardScaler().fit_transform(X)
X = torch.tensor(X, dtype=torch.float32)
y = torch.tensor(data.target, dtype=torch.float32)


class Logistic(torch.nn.Module):
    def __init__(self, n):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(n) * 0.01)
        self.bias = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x @ self.weight + self.bias


model = Logistic(X.shape[1])
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for it in range(300):
    loss = F.binary_cross_entropy_with_logits(model(X), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if it % 30 == 0 or it == 299:
        print(f"iteration {it} loss {loss.item():.4f}")
