"""Boiler efficiency regression with a Huber loss of its own."""
import torch
from sklearn.datasets import make_regression
from torch import nn

torch.manual_seed(0)
x, y = make_regression(600, 8, noise=2.0, random_state=0)
x, y = torch.tensor(x).float(), torch.tensor((y - y.mean()) / y.std()).float()


class Boiler(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(8, 32)
        self.b = nn.Linear(32, 1)

    def forward(self, x):
        return self.b(nn.functional.mish(self.a(x)))


def huber(prediction, target, delta=1.0):
    err = prediction - target
    small = err.abs() < delta
    return torch.where(small, 0.5 * err * err, delta * (err.abs() - 0.5 * delta)).mean()


model = Boiler()
opt = torch.optim.Adam(model.parameters(), lr=0.01)
for step in range(250):
    pick = torch.randint(0, 600, (64,))
    loss = huber(model(x[pick]), y[pick])
    opt.zero_grad()
    loss.backward()
    opt.step()
print(loss.item())
