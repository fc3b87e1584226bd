"""Piecewise regression with a top-1 mixture of experts."""
import torch
from torch import nn

torch.manual_seed(0)


class MoE(nn.Module):
    def __init__(self, n_in=2, experts=6, hidden=16):
        super().__init__()
        self.gate = nn.Linear(n_in, experts)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(n_in, hidden), nn.Tanh(), nn.Linear(hidden, 1)) for _ in range(experts))

    def forward(self, x):
        prob = self.gate(x).softmax(-1)
        weight, choice = prob.max(-1)
        out = x.new_zeros(len(x))
        for k, expert in enumerate(self.experts):
            rows = (choice == k).nonzero().squeeze(1)
            if len(rows):
                out = out.index_add(0, rows, weight[rows] * expert(x[rows]).squeeze(1))
        balance = len(self.experts) * (prob.mean(0) ** 2).sum()
        return out, balance


model = MoE()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for step in range(300):
    x = 2 * torch.randn(48, 2)
    y = torch.where(x[:, 0] > 1.5, torch.sin(2 * x[:, 1]), x[:, 0] * 0.5 + x[:, 1].abs() * 0.3)
    pred, balance = model(x)
    loss = (pred - y).pow(2).mean() + 0.01 * balance
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 30 == 0 or step == 299:
        print(f"step {step} loss {loss.item():.4f}")
