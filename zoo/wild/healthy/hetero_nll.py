"""Predict mean and variance of a calibrated sensor."""
import torch
from torch import nn, optim


class MeanVar(nn.Module):
    def __init__(self, d=2, h=40):
        super().__init__()
        self.shared = nn.Sequential(nn.Linear(d, h), nn.SiLU(), nn.Linear(h, h), nn.SiLU())
        self.mean = nn.Linear(h, 1)
        self.log_var = nn.Linear(h, 1)

    def forward(self, x):
        h = self.shared(x)
        return self.mean(h).squeeze(1), self.log_var(h).squeeze(1).clamp(-14, 4)


def gaussian_nll(mean, log_var, y):
    return 0.5 * (log_var + (y - mean) ** 2 * torch.exp(-log_var)).mean()


def sensor(n):
    x = torch.rand(n, 2) * 2 - 1
    sd = 0.002 + 0.01 * (x[:, 1] + 1)
    return x, 0.2 * torch.sin(3 * x[:, 0]) + 0.1 * x[:, 1] + sd * torch.randn(n)


def coverage(model, x, y):
    with torch.no_grad():
        m, lv = model(x)
    return ((y - m).abs() < 1.96 * (0.5 * lv).exp()).float().mean().item(), gaussian_nll(m, lv, y).item()


x, y = sensor(3000)
xt, yt = sensor(1000)
model = MeanVar()
optimizer = optim.Adam(model.parameters(), lr=3e-3)
scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
for epoch in range(20):
    for rows in torch.randperm(len(x)).split(75):
        optimizer.zero_grad()
        loss = gaussian_nll(*model(x[rows]), y[rows])
        loss.backward()
        optimizer.step()
    scheduler.step()
    cov, nll = coverage(model, xt, yt)
    if epoch % 2 == 1:
        print(f"epoch {epoch + 1} batch nll {loss.item():.4f} test nll {nll:.4f} coverage {cov:.3f}")
