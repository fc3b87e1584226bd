import torch
from sklearn.datasets import load_wine
from torch import nn

torch.manual_seed(0)
w = load_wine()
X = torch.tensor((w.data - w.data.mean(0)) / w.data.std(0), dtype=torch.float32)
y = torch.tensor(w.target)
model = nn.Linear(13, 3)
optimizer = torch.optim.LBFGS(model.parameters(), lr=1.0, max_iter=5, line_search_fn="strong_wolfe")


def closure():
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(X), y) + 1e-3 * model.weight.pow(2).sum()
    loss.backward()
    return loss


for it in range(25):
    loss = optimizer.step(closure)
    if it % 3 == 0:
        print(f"iteration {it} loss {loss.item():.6f}")
