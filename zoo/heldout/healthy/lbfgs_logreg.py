import torch
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler

torch.manual_seed(1016)
X, y = load_breast_cancer(return_X_y=True)
X = torch.tensor(StandardScaler().fit_transform(X), dtype=torch.float64)
y = torch.tensor(y, dtype=torch.float64)
w = torch.zeros(30, dtype=torch.float64, requires_grad=True)
b = torch.zeros(1, dtype=torch.float64, requires_grad=True)
opt = torch.optim.LBFGS([w, b], max_iter=10, line_search_fn="strong_wolfe")


def closure():
    opt.zero_grad()
    z = X @ w + b
    loss = torch.nn.functional.binary_cross_entropy_with_logits(z, y) + 5e-3 * (w ** 2).sum()
    loss.backward()
    return loss


for i in range(12):
    loss = opt.step(closure)
    print(f"iter {i} objective {loss.item():.8f}")
print("grad norm", f"{w.grad.norm().item():.2e}")
