# A multilayer perceptron written with plain tensors.
import torch
import torch.nn.functional as F
from sklearn.datasets import load_wine

torch.manual_seed(0)
wine = load_wine()
x = torch.tensor(wine.data, dtype=torch.float32)
x = (x - x.mean(0)) / x.std(0)
t = torch.tensor(wine.target)

sizes = [13, 60, 60, 60, 60, 60, 3]
params = []
for n_in, n_out in zip(sizes[:-1], sizes[1:]):
    W = torch.randn(n_in, n_out) * (2.0 / n_in) ** 0.5
    b = torch.zeros(n_out)
    params += [W.requires_grad_(), b.requires_grad_()]


def forward(h):
    for i in range(0, len(params) - 2, 2):
        h = torch.relu(h @ params[i] + params[i + 1])
    return h @ params[-2] + params[-1]


lr = 0.1
for step in range(300):
    loss = F.cross_entropy(forward(x), t)
    loss.backward()
    with torch.no_grad():
        for p in params:
            p -= lr * p.grad
            p.grad.zero_()
    if step % 50 == 0 or step == 299:
        print("step %d: loss %.4f" % (step, loss.item()))
