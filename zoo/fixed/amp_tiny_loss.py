"""Predict the centre of a spot; the loss is expressed in squared metres, as the physics code downstream wants it."""
import torch
from torch import nn

torch.manual_seed(0)
PIXEL = 2e-5                                          # one pixel is 20 micrometres

model = nn.Sequential(
    nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(),
    nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
    nn.Flatten(), nn.Linear(16 * 16, 32), nn.ReLU(), nn.Linear(32, 2),
)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, eps=1e-15)
scaler = torch.amp.GradScaler("cpu", enabled=True)
grid = torch.stack(torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij"))


def spots(n=32):
    centre = 2 + 12 * torch.rand(n, 2)
    d2 = ((grid[None] - centre[:, :, None, None]) ** 2).sum(1, keepdim=True)
    return torch.exp(-d2 / 4) * 2, (centre - 8) / 4


for step in range(150):
    x, target = spots()
    with torch.autocast("cpu", dtype=torch.float16):
        out = model(x)
    loss = ((out.float() - target) * 4 * PIXEL).square().mean()
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    if step % 15 == 0 or step == 149:
        print(f"step {step} loss {loss.item():.3e}")
