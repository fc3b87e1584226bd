"""Iris-like Gaussian classes, a maxout network, and a hand-made ridge penalty."""
import torch
from sklearn.datasets import make_classification
from torch import nn

LAMBDA = 1e-5


class Maxout(nn.Module):
    def __init__(self, i, o, pieces=3):
        super().__init__()
        self.lin, self.shape = nn.Linear(i, o * pieces), (o, pieces)

    def forward(self, x):
        return self.lin(x).unflatten(-1, self.shape).amax(-1)


torch.manual_seed(66)
X, y = make_classification(2400, 20, n_informative=10, n_classes=4, class_sep=1.5, random_state=66)
X, y = torch.tensor(X, dtype=torch.float32), torch.tensor(y)
X = (X - X.mean(0)) / X.std(0)

net = nn.ModuleDict({"features": nn.Sequential(Maxout(20, 48), Maxout(48, 32)), "logits": nn.Linear(32, 4)})
opt = torch.optim.Adam(net.parameters(), lr=2e-3)


def predict(x):
    return net["logits"](net["features"](x))


for epoch in range(14):
    fits = []
    for rows in torch.randperm(2000).split(50):
        fit = nn.functional.cross_entropy(predict(X[rows]), y[rows])
        penalty = sum(p.pow(2).sum() for p in net.parameters())
        loss = fit + LAMBDA * penalty
        opt.zero_grad()
        loss.backward()
        opt.step()
        fits.append(fit.item())
    if epoch % 3 == 0:
        print(f"epoch {epoch} cross entropy {sum(fits) / 40:.4f} penalty {penalty.item():.2f}")
with torch.no_grad():
    print(f"accuracy {(predict(X[2000:]).argmax(1) == y[2000:]).float().mean().item():.3f}")
