# One-step-ahead forecasting of a noisy mixture of waves with a GRU.
import numpy as np
import torch
import torch.nn as nn

torch.manual_seed(3)
rng = np.random.default_rng(3)


class Forecaster(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.gru = nn.GRU(1, hidden, batch_first=True)
        self.readout = nn.Linear(hidden, 1)
        for name, p in self.named_parameters():
            if p.dim() > 1:
                nn.init.xavier_normal_(p)
            else:
                nn.init.zeros_(p)

    def forward(self, x):
        out, _ = self.gru(x)
        return self.readout(out)


def batch(n=32, length=40):
    t = np.arange(length + 1)[None, :]
    f = rng.uniform(0.05, 0.2, (n, 2))
    phase = rng.uniform(0, 2 * np.pi, (n, 2))
    s = np.sin(2 * np.pi * f[:, :1] * t + phase[:, :1]) + 0.5 * np.sin(2 * np.pi * f[:, 1:] * t + phase[:, 1:])
    s = s + 0.02 * rng.standard_normal(s.shape)
    s = torch.tensor(s, dtype=torch.float32).unsqueeze(-1)
    return s[:, :-1], s[:, 1:]


model = Forecaster()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
criterion = nn.MSELoss()
for step in range(250):
    x, y = batch()
    loss = criterion(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 25 == 24:
        print("step", step + 1, "loss", round(loss.item(), 5))
