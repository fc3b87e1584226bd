import math
import torch
from torch import nn

torch.manual_seed(77)
net = nn.Sequential(nn.Linear(2, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 1))
opt = torch.optim.Adam(net.parameters(), lr=5e-3)


def grad(out, wrt):
    return torch.autograd.grad(out.sum(), wrt, create_graph=True)[0]


for step in range(260):
    x, t = torch.rand(64, 1, requires_grad=True), torch.rand(64, 1, requires_grad=True)
    u = net(torch.cat([x, t], 1))
    u_t, u_x = grad(u, t), grad(u, x)
    residual = u_t - 0.1 * grad(u_x, x)
    x0 = torch.rand(64, 1)
    start = net(torch.cat([x0, torch.zeros(64, 1)], 1)) - torch.sin(math.pi * x0)
    edge = net(torch.cat([torch.randint(0, 2, (64, 1)).float(), torch.rand(64, 1)], 1))
    loss = residual.pow(2).mean() + 10 * start.pow(2).mean() + 10 * edge.pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 40 == 19:
        print(f"{step + 1} loss {loss.item():.5f}")
