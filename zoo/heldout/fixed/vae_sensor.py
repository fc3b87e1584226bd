import torch
from torch import nn
import torch.nn.functional as F

torch.manual_seed(19)

# machine telemetry: timestamp (unix seconds), rpm, temperature, vibration x5
n = 1600
base = torch.randn(n, 3)
mix = torch.randn(3, 6)
tele = torch.tanh(base @ mix) + 0.1 * torch.randn(n, 6)
stamp = 1.0e4 + torch.arange(n).float()[:, None] * 6.0
rpm = 3000 + 450 * tele[:, :1]
data = torch.cat([stamp, rpm, tele[:, 1:]], 1)
data = (data - data.mean(0)) / data.std(0)
target = (tele[:, 0] * tele[:, 1] + 0.5 * tele[:, 2]).unsqueeze(1)


class VIB(nn.Module):
    """variational information bottleneck regressor"""

    def __init__(self, d, z=4):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(d, 48), nn.ELU(), nn.Linear(48, 2 * z))
        self.dec = nn.Sequential(nn.Linear(z, 48), nn.ELU(), nn.Linear(48, 1))

    def forward(self, x):
        mu, lv = self.enc(x).chunk(2, 1)
        lv = lv.clamp(-8, 4)
        z = mu + torch.randn_like(mu) * (0.5 * lv).exp()
        kl = -0.5 * (1 + lv - mu.pow(2) - lv.exp()).sum(1).mean()
        return self.dec(z), kl


vib = VIB(data.size(1))
opt = torch.optim.AdamW(vib.parameters(), lr=3e-3)
for step in range(401):
    i = torch.randint(0, n, (64,))
    pred, kl = vib(data[i])
    rec = F.smooth_l1_loss(pred, target[i])
    loss = rec + 1e-3 * kl
    opt.zero_grad(); loss.backward(); opt.step()
    if step % 50 == 0:
        print(f"{step}: total {loss.item():.4f} rec {rec.item():.4f} kl {kl.item():.2f}")
