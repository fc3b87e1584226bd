"""Fit a vector field so that its Euler flow follows a damped pendulum."""
import torch
from torch import nn

STEPS = 120
DT = 0.1


class Field(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.lift = nn.Linear(2, width)
        self.mix = nn.Linear(width, width)
        self.back = nn.Linear(width, 2)

    def forward(self, s):
        return self.back(torch.relu(self.mix(torch.relu(self.lift(s)))))


class Flow(nn.Module):
    def __init__(self, field):
        super().__init__()
        self.field = field

    def forward(self, s):
        path = [s]
        for _ in range(STEPS):
            s = s + self.field(s)
            path.append(s)
        return path[-1]


def pendulum(s):
    for _ in range(STEPS):
        theta, omega = s[:, :1], s[:, 1:]
        s = torch.cat([theta + DT * omega, omega - DT * (theta.sin() + 0.2 * omega)], 1)
    return s


torch.manual_seed(9)
flow = Flow(Field())
opt = torch.optim.SGD(flow.parameters(), lr=1e-3)
for step in range(120):
    s0 = torch.randn(32, 2)
    loss = nn.functional.mse_loss(flow(s0), pendulum(s0))
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 20 == 0:
        print(step, loss.item())
