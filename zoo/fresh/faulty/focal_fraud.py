"""Rare-event detection with a focal loss written as an autograd function."""
import torch
from sklearn.datasets import make_classification
from torch import nn


class Focal(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logit, target):
        p = torch.sigmoid(logit)
        pt = torch.where(target > 0, p, 1 - p)
        ctx.save_for_backward(p, pt, target)
        return -((1 - pt) ** 2 * torch.log(pt)).mean()

    @staticmethod
    def backward(ctx, grad):
        p, pt, target = ctx.saved_tensors
        sign = torch.where(target > 0, 1.0, -1.0)
        dp = 2 * (1 - pt) * torch.log(pt) - (1 - pt) ** 2 / pt
        return grad * dp * sign * p * (1 - p) / p.numel(), None


def load():
    x, y = make_classification(3000, 16, n_informative=6, weights=[0.95], class_sep=2.0, flip_y=0.02, random_state=0)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)


torch.manual_seed(0)
x, y = load()
net = nn.Sequential(nn.Linear(16, 64), nn.ELU(), nn.Linear(64, 64), nn.ELU(), nn.Linear(64, 1))
with torch.no_grad():
    net[-1].weight.mul_(30)
opt = torch.optim.Adam(net.parameters(), lr=2e-3)
for step in range(300):
    pick = torch.randint(0, len(x), (128,))
    loss = Focal.apply(net(4 * x[pick]).squeeze(1) * 3, y[pick])
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 50 == 0:
        print(step, loss.item())
