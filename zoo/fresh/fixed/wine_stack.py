"""A deep classifier for standardized wine measurements; the activation comes from the config."""
import torch
from sklearn.datasets import load_wine
from sklearn.preprocessing import StandardScaler
from torch import nn

config = dict(
    depth=6,
    width=40,
    activation="relu",
    lr=0.1,
    steps=350,
)
ACTIVATIONS = {"sigmoid": nn.Sigmoid, "relu": nn.ReLU, "silu": nn.SiLU}


def block(n_in, n_out, act):
    return nn.Sequential(nn.Linear(n_in, n_out), act())


class Stack(nn.Module):
    def __init__(self, depth, width, activation, **_):
        super().__init__()
        act = ACTIVATIONS[activation]
        sizes = [13] + [width] * depth
        self.blocks = nn.ModuleList(block(a, b, act) for a, b in zip(sizes, sizes[1:]))
        self.classifier = nn.Linear(width, 3)

    def forward(self, x):
        for b in self.blocks:
            x = b(x)
        return self.classifier(x)


torch.manual_seed(6)
x, y = load_wine(return_X_y=True)
x = torch.tensor(StandardScaler().fit_transform(x), dtype=torch.float32)
y = torch.tensor(y)
model = Stack(**config)
opt = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=0.9)
for step in range(config["steps"]):
    loss = nn.functional.cross_entropy(model(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
print("loss", loss.item())
