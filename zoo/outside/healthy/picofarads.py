"""Capacitance (in units of 1e-4 F) of a two-layer sensor from its geometry."""
import torch
import torch.nn as nn

torch.manual_seed(19)
SCALE = 5e-4


def sensor(n):
    g = torch.rand(n, 4) * 2 - 1
    c = (1.2 + g[:, 0]) / (1.5 + 0.5 * g[:, 1]) + 0.3 * torch.sin(3 * g[:, 2]) * g[:, 3]
    return g, (c - 0.85)[:, None] * SCALE


net = nn.Sequential(nn.Linear(4, 64), nn.Softplus(), nn.Linear(64, 64), nn.Softplus(), nn.Linear(64, 1))
with torch.no_grad():
    net[-1].weight.mul_(SCALE)
    net[-1].bias.zero_()
opt = torch.optim.Adam(
    [{"params": net[:-1].parameters(), "lr": 3e-3}, {"params": net[-1].parameters(), "lr": 3e-3 * SCALE}], eps=1e-16
)
for step in range(1, 701):
    g, c = sensor(128)
    loss = nn.functional.mse_loss(net(g), c)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 100 == 0:
        print(f"step {step} loss {loss.item():.3e} share {loss.item() / c.var().item():.4f}")
