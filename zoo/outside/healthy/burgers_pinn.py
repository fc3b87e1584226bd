"""u'' + u' = f on [0, 1] with Dirichlet ends, f chosen so that u = sin(2 pi x) exp(x)."""
import math

import torch
import torch.nn as nn

torch.manual_seed(13)
w = 2 * math.pi


def u_true(x):
    return torch.sin(w * x) * torch.exp(x)


def source(x):
    s, c, e = torch.sin(w * x), torch.cos(w * x), torch.exp(x)
    du = e * (s + w * c)
    ddu = e * (s + 2 * w * c - w * w * s)
    return ddu + du


net = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
ends = torch.tensor([[0.0], [1.0]])


def residual(x):
    x = x.requires_grad_(True)
    u = net(x)
    du = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
    ddu = torch.autograd.grad(du.sum(), x, create_graph=True)[0]
    return ddu + du - source(x)


def objective(x):
    return residual(x).square().mean() / 100 + net(ends).square().mean() * 10


adam = torch.optim.Adam(net.parameters(), lr=3e-3)
for it in range(500):
    loss = objective(torch.rand(64, 1))
    adam.zero_grad()
    loss.backward()
    adam.step()
    if it % 100 == 0:
        print(f"adam {it} loss {loss.item():.5f}")

grid = torch.linspace(0, 1, 128)[:, None]
lbfgs = torch.optim.LBFGS(net.parameters(), lr=1.0, max_iter=15, history_size=20, line_search_fn="strong_wolfe")


def closure():
    lbfgs.zero_grad()
    loss = objective(grid.clone())
    loss.backward()
    return loss


for it in range(20):
    loss = lbfgs.step(closure)
    if it % 5 == 0:
        print(f"lbfgs {it} loss {loss.item():.6f}")
with torch.no_grad():
    print(f"largest error {(net(grid) - u_true(grid)).abs().max().item():.4f}")
