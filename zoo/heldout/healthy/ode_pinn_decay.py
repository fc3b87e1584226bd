# PINN: y' = -2 y + cos(3 t), y(0) = 1
import math
import torch
import torch.nn as nn

torch.manual_seed(1024)


def exact(t):
    return (2 * torch.cos(3 * t) + 3 * torch.sin(3 * t)) / 13 + (1 - 2 / 13) * torch.exp(-2 * t)


net = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1))
opt = torch.optim.Adam(net.parameters(), lr=5e-3)
sched = torch.optim.lr_scheduler.ExponentialLR(opt, 0.997)
for it in range(501):
    t = (2 * torch.rand(80, 1)).requires_grad_(True)
    y = 1 + t * net(t)
    dy = torch.autograd.grad(y, t, torch.ones_like(y), create_graph=True)[0]
    loss = ((dy + 2 * y - torch.cos(3 * t)) ** 2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    sched.step()
    if it % 100 == 0:
        tt = torch.linspace(0, 2, 50)[:, None]
        with torch.no_grad():
            e = (1 + tt * net(tt) - exact(tt)).abs().max().item()
        print(f"it {it} residual {loss.item():.3e} max err {e:.3e}")
