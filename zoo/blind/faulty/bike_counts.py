import math
import torch
from torch import nn

torch.manual_seed(61)
hour = torch.randint(0, 24, (1500,)).float()
weekday = torch.randint(0, 7, (1500,)).float()
rain = (torch.rand(1500) < 0.3).float()
temp = torch.randn(1500)
design = torch.stack([torch.sin(2 * math.pi * hour / 24), torch.cos(2 * math.pi * hour / 24),
                      torch.sin(4 * math.pi * hour / 24), torch.cos(4 * math.pi * hour / 24),
                      (weekday > 4).float(), rain, temp], 1)
log_rate = 1.0 + 0.9 * design[:, 0] - 0.6 * design[:, 3] - 1.0 * rain + 0.4 * temp - 0.5 * design[:, 4] * design[:, 0]
counts = torch.poisson(log_rate.exp())


class CountModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp, self.mid, self.out = nn.Linear(7, 48), nn.Linear(48, 48), nn.Linear(48, 1)

    def forward(self, z):
        z = torch.tanh(self.inp(z))
        z = torch.tanh(self.mid(z))
        return self.out(z).squeeze(1)


model = CountModel()
objective = nn.PoissonNLLLoss(log_input=True, full=True)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=12.0)
for epoch in range(9):
    total = 0.0
    parts = torch.randperm(1500).split(60)
    for rows in parts:
        nll = objective(model(design[rows]), counts[rows])
        optimizer.zero_grad()
        nll.backward()
        optimizer.step()
        total += nll.item()
    print(f"pass {epoch} nll {total / len(parts):.4f}")
