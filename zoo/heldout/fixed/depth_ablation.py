"""Ablation from the course project: how deep can we go?  usage: python depth_ablation.py"""
import argparse
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import make_moons

p = argparse.ArgumentParser()
p.add_argument("--depth", type=int, default=60)
p.add_argument("--width", type=int, default=16)
p.add_argument("--lr", type=float, default=2e-3)
p.add_argument("--steps", type=int, default=200)
args = p.parse_args()

torch.manual_seed(21)
Xn, yn = make_moons(1200, noise=0.12, random_state=3)
X = torch.tensor(Xn).float()
X = (X - X.mean(0)) / X.std(0)
y = torch.tensor(yn)


class Layer(nn.Module):
    def __init__(self, w):
        super().__init__()
        self.fc = nn.Linear(w, w)
        nn.init.kaiming_normal_(self.fc.weight, nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, x):
        return F.relu(self.fc(x))


class Net(nn.Module):
    def __init__(self, depth, width):
        super().__init__()
        self.stem = nn.Linear(2, width)
        self.body = nn.ModuleList(Layer(width) for _ in range(depth))
        self.head = nn.Linear(width, 2)

    def forward(self, x):
        x = self.stem(x)
        for layer in self.body:
            x = x + 0.05 * layer(x)
        return self.head(x)


net = Net(args.depth, args.width)
opt = torch.optim.SGD(net.parameters(), lr=args.lr, momentum=0.9)
for s in range(args.steps):
    i = torch.randint(0, 1000, (64,))
    loss = F.cross_entropy(net(X[i]), y[i])
    opt.zero_grad(); loss.backward(); opt.step()
    if s % 50 == 0:
        print("step", s, "loss", round(loss.item(), 4))
with torch.no_grad():
    print("val loss", round(F.cross_entropy(net(X[1000:]), y[1000:]).item(), 4))
