"""PINN for u'' + u^2 = f on [0, 1] with Dirichlet ends."""
import math

import torch


class MLP(torch.nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.a = torch.nn.Linear(1, width)
        self.b = torch.nn.Linear(width, width)
        self.c = torch.nn.Linear(width, 1)

    def forward(self, x):
        return self.c(torch.tanh(self.b(torch.tanh(self.a(x)))))


def exact(x):
    return torch.sin(math.pi * x) + 0.3 * torch.sin(3 * math.pi * x)


def source(x):
    lap = -math.pi ** 2 * torch.sin(math.pi * x) - 2.7 * math.pi ** 2 * torch.sin(3 * math.pi * x)
    return lap + exact(x) ** 2


def residual(net, x):
    x = x.requires_grad_(True)
    u = net(x)
    du = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
    ddu = torch.autograd.grad(du.sum(), x, create_graph=True)[0]
    return ddu + u ** 2 - source(x)


def train(net, steps, lr, points, log):
    opt = torch.optim.Adam(net.parameters(), lr=lr)
    ends = torch.tensor([[0.0], [1.0]])
    for k in range(1, steps + 1):
        x = torch.rand(points, 1)
        r = residual(net, x).square().mean()
        b = net(ends).square().mean()
        loss = r + 20 * b
        opt.zero_grad()
        loss.backward()
        opt.step()
        if k % log == 0:
            grid = torch.linspace(0, 1, 101)[:, None]
            with torch.no_grad():
                err = (net(grid) - exact(grid)).abs().max().item()
            print(f"lr {lr:g} step {k} residual {r.item():.4f} boundary {b.item():.2e} max error {err:.4f}")


if __name__ == "__main__":
    torch.manual_seed(0)
    net = MLP()
    train(net, 900, 3e-3, 100, 100)
    train(net, 300, 3e-4, 200, 100)
