"""Adapt a trained regressor to a shifted task with low-rank updates."""
import torch
from torch import nn

torch.manual_seed(0)


class LoRALinear(nn.Module):
    def __init__(self, base, rank=4, alpha=8.0):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.A = nn.Parameter(torch.randn(rank, base.in_features) / base.in_features ** 0.5)
        self.B = nn.Parameter(torch.zeros(base.out_features, rank))
        self.scale = alpha / rank

    def forward(self, x):
        return self.base(x) + self.scale * (x @ self.A.t()) @ self.B.t()


def fit(model, target, steps, lr, tag):
    optimizer = torch.optim.Adam((p for p in model.parameters() if p.requires_grad), lr=lr)
    for step in range(1, steps + 1):
        x = torch.randn(64, 8)
        loss = (model(x).squeeze(1) - target(x)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 30 == 0:
            print(f"{tag} step {step} loss {loss.item():.4f}")


model = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
fit(model, lambda x: torch.sin(x[:, 0]) + 0.5 * x[:, 1], 150, 3e-3, "base")
for i in (0, 2):
    model[i] = LoRALinear(model[i])
model[4].requires_grad_(False)
fit(model, lambda x: torch.sin(x[:, 0] + x[:, 2]) - 0.5 * x[:, 3], 180, 5e-3, "adapt")
