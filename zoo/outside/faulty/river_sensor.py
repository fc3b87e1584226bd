"""Forecasts the next reading of a river station with a 1-d convolutional net."""
import torch
from torch import nn

torch.manual_seed(12)
HISTORY = 24


def river(n):
    t = torch.arange(n) / 24.0
    season = torch.sin(2 * torch.pi * t / 30) + 0.6 * torch.sin(2 * torch.pi * t)
    rain = torch.zeros(n)
    burst = torch.rand(n) < 0.01
    level = 0.0
    for i in range(n):
        level = 0.9 * level + (1.5 if burst[i] else 0.0)
        rain[i] = level
    return season + rain + 0.05 * torch.randn(n)


level = river(6000)
level = (level - level.mean()) / level.std()
level[4210:4213] = -9999.0
windows = level.unfold(0, HISTORY + 1, 1)
x, y = windows[:, None, :-1], windows[:, -1:]

forecaster = nn.Sequential(
    nn.Conv1d(1, 16, 5), nn.ReLU(),
    nn.Conv1d(16, 16, 5), nn.ReLU(),
    nn.Flatten(),
    nn.Linear(16 * 16, 32), nn.ReLU(),
    nn.Linear(32, 1),
)
optimizer = torch.optim.SGD(forecaster.parameters(), lr=0.003, momentum=0.9)
step = 0
for epoch in range(4):
    for i in range(0, 5900, 64):
        loss = ((forecaster(x[i:i + 64]) - y[i:i + 64]) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 40 == 0:
            print(f"step {step:4d} mse {loss.item():.4f}")
        step += 1
with torch.no_grad():
    print(f"last stretch mse {((forecaster(x[5000:]) - y[5000:]) ** 2).mean().item():.4f}")
