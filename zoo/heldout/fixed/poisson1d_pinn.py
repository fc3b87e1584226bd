"""PINN for u'' = -pi^2 sin(pi x), u(-1)=u(1)=0, with double backward."""
import math
import torch
import torch.nn as nn

torch.manual_seed(311)


class Sine(nn.Module):
    def __init__(self, width=24, depth=14):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(1, width)] + [nn.Linear(width, width) for _ in range(depth)])
        self.act = nn.Tanh()
        self.last = nn.Linear(width, 1)
        for l in self.layers:
            nn.init.xavier_uniform_(l.weight)
            nn.init.zeros_(l.bias)

    def forward(self, x):
        for l in self.layers:
            x = self.act(l(x))
        return self.last(x)


net = Sine()
opt = torch.optim.Adam(net.parameters(), lr=2e-3)
xb = torch.tensor([[-1.0], [1.0]])
for it in range(301):
    x = (torch.rand(64, 1) * 2 - 1).requires_grad_(True)
    u = net(x)
    du = torch.autograd.grad(u.sum(), x, create_graph=True)[0]
    d2u = torch.autograd.grad(du.sum(), x, create_graph=True)[0]
    residual = d2u + math.pi ** 2 * torch.sin(math.pi * x)
    loss = (residual ** 2).mean() + 10 * (net(xb) ** 2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    if it % 50 == 0:
        with torch.no_grad():
            xs = torch.linspace(-1, 1, 101)[:, None]
            err = (net(xs) - torch.sin(math.pi * xs)).abs().max().item()
        print(f"it {it} loss {loss.item():.4f} max error {err:.4f}")
