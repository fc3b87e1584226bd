"""Learn the dynamics of a driven pendulum by matching whole simulated trajectories."""
import math
import torch
import torch.nn as nn

torch.manual_seed(8)
DT, STEPS, B = 0.1, 200, 24


def physics(s, t):
    th, om = s[:, :1], s[:, 1:]
    return torch.cat([om, -1.5 * torch.sin(th) - 0.1 * om + 0.6 * math.cos(0.9 * t)], 1)


def truth(s0):
    out, s = [s0], s0
    for k in range(STEPS):
        s = s + DT * physics(s, k * DT)
        out.append(s)
    return torch.stack(out)


class Dyn(nn.Module):
    def __init__(self):
        super().__init__()
        self.f = nn.Sequential(nn.Linear(4, 48), nn.Tanh(), nn.Linear(48, 2))

    def forward(self, s, t):
        drive = torch.full_like(s[:, :1], math.cos(0.9 * t))
        z = torch.cat([torch.sin(s[:, :1]), torch.cos(s[:, :1]), s[:, 1:], drive], 1)
        return s + DT * 2.0 * self.f(z)


dyn = Dyn()
opt = torch.optim.SGD(dyn.parameters(), lr=0.05, momentum=0.9)
with torch.no_grad():
    traj = truth(torch.randn(B, 2) * torch.tensor([1.2, 0.8]))

for it in range(50):
    s = traj[0]
    loss = 0.0
    for k in range(STEPS):
        s = dyn(s, k * DT)
        loss = loss + ((s - traj[k + 1]) ** 2).mean() / STEPS
    opt.zero_grad()
    loss.backward()
    opt.step()
    if it % 5 == 0 or it == 49:
        print(f"it {it:3d}  trajectory mse {loss.item():.5g}")
with torch.no_grad():
    one = torch.stack([dyn(traj[k], k * DT) for k in range(STEPS)])
print(f"one-step mse {((one - traj[1:]) ** 2).mean().item():.3e}")
