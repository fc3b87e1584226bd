"""Regress crop yield (standardised) on weather variables."""
import torch
from torch import nn

torch.manual_seed(1)


class YieldModel(nn.Module):
    def __init__(self, n_in):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(n_in, 48), nn.ReLU(),
            nn.Linear(48, 24), nn.ReLU(),
            nn.Linear(24, 1), nn.ReLU(),
        )

    def forward(self, x):
        return self.net(x).squeeze(-1)


n = 1500
rain, sun, temp = torch.randn(3, n)
anomaly = -1.2 + 0.8 * rain + 0.5 * sun - 0.6 * temp ** 2 + 0.2 * rain * sun
target = anomaly + 0.1 * torch.randn(n)                # yield anomaly against the ten-year mean
x = torch.stack([rain, sun, temp], dim=1)

model = YieldModel(3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for step in range(300):
    idx = torch.randint(0, n, (64,))
    loss = nn.functional.mse_loss(model(x[idx]), target[idx])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 30 == 0 or step == 299:
        print(f"step {step} loss {loss.item():.4f}")
