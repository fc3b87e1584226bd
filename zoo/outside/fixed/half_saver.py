"""Moon phase from a one-dimensional light curve; kept small so that it fits on the logger board."""
import torch
from torch import nn

torch.manual_seed(33)
DTYPE = torch.float32
model = nn.Sequential(nn.Linear(40, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))

t = torch.linspace(0, 1, 40)


def curves(n):
    phase = torch.randint(0, 4, (n,))
    wave = torch.sin(2 * torch.pi * (t[None] * (1 + phase[:, None] * 0.5) + torch.rand(n, 1)))
    return (wave + 0.2 * torch.randn(n, 40)).to(DTYPE), phase


optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for step in range(400):
    x, phase = curves(64)
    loss = nn.functional.cross_entropy(model(x).float(), phase)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(f"{step} {loss.item():.4f}")
with torch.no_grad():
    x, phase = curves(1000)
    print(f"accuracy {(model(x).argmax(1) == phase).float().mean().item():.3f}")
