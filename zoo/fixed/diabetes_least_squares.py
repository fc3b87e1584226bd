# Ordinary least squares by gradient descent on the diabetes data.
import torch
from sklearn.datasets import load_diabetes

torch.manual_seed(0)
data = load_diabetes()
X = torch.tensor(data.data, dtype=torch.float32)
X = (X - X.mean(0)) / X.std(0)
y = torch.tensor(data.target, dtype=torch.float32)
y = (y - y.mean()) / y.std()

w = (0.1 * torch.randn(10)).requires_grad_()
b = torch.zeros(1, requires_grad=True)
lr = 0.07

for step in range(150):
    pred = X @ w + b
    loss = ((pred - y) ** 2).mean()
    loss.backward()
    with torch.no_grad():
        w -= lr * w.grad
        b -= lr * b.grad
    w.grad = None
    b.grad = None
    if step % 15 == 0 or step == 149:
        print(f"step {step:3d} loss {loss.item():.4f}")
