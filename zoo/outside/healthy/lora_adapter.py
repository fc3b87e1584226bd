"""Low-rank adaptation of a frozen network to a shifted regression task."""
import torch
import torch.nn as nn


class LoRALinear(nn.Module):
    def __init__(self, base, rank=4, alpha=8):
        super().__init__()
        self.base = base
        for p in base.parameters():
            p.requires_grad = False
        self.A = nn.Parameter(torch.randn(rank, base.in_features) / base.in_features**0.5)
        self.B = nn.Parameter(torch.zeros(base.out_features, rank))
        self.scale = alpha / rank

    def forward(self, x):
        return self.base(x) + (x @ self.A.T @ self.B.T) * self.scale


def mlp():
    return nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 1))


def truth(x, twist):
    return (torch.sin(x[:, :1] + twist) + x[:, 1:2] * x[:, 2:3] + 0.5 * twist * x[:, 3:4]) / 1.2


def fit(model, opt, twist, steps, tag):
    for step in range(1, steps + 1):
        x = torch.randn(128, 8)
        loss = nn.functional.mse_loss(model(x), truth(x, twist))
        opt.zero_grad()
        loss.backward()
        opt.step()
        if step % 200 == 0:
            print(f"{tag} step {step} loss {loss.item():.4f}")


torch.manual_seed(1)
net = mlp()
fit(net, torch.optim.Adam(net.parameters(), lr=3e-3), 0.0, 400, "base")
for i in (0, 2, 4):
    net[i] = LoRALinear(net[i])
fit(net, torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=5e-3), 1.0, 600, "adapter")
