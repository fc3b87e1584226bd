import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(221)
n = 2000
x = torch.rand(n, 2) * 4 - 2
region = (x[:, 0] > 0).long() * 2 + (x[:, 1] > 0).long()
y = torch.where(region == 0, torch.sin(3 * x[:, 0]), torch.where(region == 1, x[:, 1] ** 2, torch.where(region == 2, -x[:, 0] * x[:, 1], torch.cos(2 * x[:, 1]))))
y = y.unsqueeze(1) + 0.05 * torch.randn(n, 1)


class MixtureOfExperts(nn.Module):
    def __init__(self, n_experts=4, hidden=24):
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, n_experts))
        self.experts = [nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 1))
                        for _ in range(n_experts)]

    def forward(self, x):
        w = F.softmax(self.gate(x), dim=-1)
        outs = torch.stack([e(x) for e in self.experts], dim=-1)
        return (outs * w.unsqueeze(1)).sum(-1)


moe = MixtureOfExperts()
opt = torch.optim.Adam(moe.parameters(), lr=5e-3)
for step in range(1, 301):
    i = torch.randint(0, 1800, (64,))
    loss = F.mse_loss(moe(x[i]), y[i])
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 30 == 0:
        with torch.no_grad():
            print(f"{step:4d} train {loss.item():.4f} val {F.mse_loss(moe(x[1800:]), y[1800:]).item():.4f}")
