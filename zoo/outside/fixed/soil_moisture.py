import torch
from torch import nn, optim

torch.manual_seed(58)


class MoistureGRU(nn.Module):
    def __init__(self, features=3, hidden=32):
        super().__init__()
        self.gru = nn.GRU(features, hidden, batch_first=True)
        self.head = nn.Sequential(nn.Linear(hidden, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, x):
        out, _ = self.gru(x)
        return self.head(out).squeeze(-1)


def season(n, days=20):
    rain = torch.relu(torch.randn(n, days) - 0.8) * 2
    heat = torch.sin(torch.arange(days) / 4.0 + torch.rand(n, 1) * 6.28)
    wind = torch.randn(n, days) * 0.5
    store, level = [], torch.zeros(n)
    for d in range(days):
        level = 0.85 * level + rain[:, d] - 0.2 * torch.relu(heat[:, d] + wind[:, d]) * level
        store.append(level)
    y = torch.stack(store, 1)
    return torch.stack([rain, heat, wind], 2), (y - 1.8) / 1.6


model = MoistureGRU()
optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
for step in range(400):
    x, y = season(32)
    loss = nn.functional.mse_loss(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 2.0)
    optimizer.step()
    if step % 50 == 49:
        print(f"step {step + 1}: mse {loss.item():.4f} of {y.var().item():.4f}")
