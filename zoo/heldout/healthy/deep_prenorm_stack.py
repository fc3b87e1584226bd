"""60 residual LayerNorm blocks of width 24: deep, but built for it."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import make_swiss_roll

torch.manual_seed(1026)
P, t = make_swiss_roll(1200, noise=0.1, random_state=0)
X = torch.tensor(P, dtype=torch.float32)
X = (X - X.mean(0)) / X.std(0)
y = torch.tensor((t - t.mean()) / t.std(), dtype=torch.float32)[:, None]


class PreNorm(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(d), nn.Linear(d, d)

    def forward(self, x):
        return x + F.relu(self.fc(self.norm(x)))


net = nn.Sequential(nn.Linear(3, 24), *[PreNorm(24) for _ in range(60)], nn.LayerNorm(24), nn.Linear(24, 1))
opt = torch.optim.AdamW(net.parameters(), lr=2e-3)
for step in range(1, 151):
    for g in opt.param_groups:
        g["lr"] = 2e-3 * min(1.0, step / 30)
    i = torch.randint(0, 1000, (64,))
    loss = F.mse_loss(net(X[i]), y[i])
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 15 == 0:
        print(f"step {step} mse {loss.item():.4f}")
with torch.no_grad():
    print(f"val mse {F.mse_loss(net(X[1000:]), y[1000:]).item():.4f}")
