"""Fit a power law y = a * (t - t0)^p + c to a relaxation curve."""
import torch
from torch import nn

torch.manual_seed(0)
t = torch.linspace(0.2, 6.0, 80)
y = 2.0 * (t - 0.15) ** -0.6 + 0.3 + 0.02 * torch.randn(80)


class PowerLaw(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(1.0))
        self.t0 = nn.Parameter(torch.tensor(-0.5))
        self.p = nn.Parameter(torch.tensor(-1.0))
        self.c = nn.Parameter(torch.tensor(0.0))

    def forward(self, t):
        base = t - self.t0
        return self.a * base ** self.p + self.c


model = PowerLaw()
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.3, max_iter=4)


def closure():
    optimizer.zero_grad()
    loss = ((model(t) - y) ** 2).mean()
    loss.backward()
    return loss


for it in range(60):
    loss = optimizer.step(closure)
    if it % 6 == 0 or it == 59:
        print(f"iteration {it} loss {loss.item():.6f}")
