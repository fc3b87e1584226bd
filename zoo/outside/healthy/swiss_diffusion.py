import math

import torch
import torch.nn as nn
from sklearn.datasets import make_swiss_roll

torch.manual_seed(4)
STEPS = 50
beta = torch.linspace(1e-3, 0.12, STEPS)
alpha_bar = (1 - beta).cumprod(0)


class Denoiser(nn.Module):
    def __init__(self, hidden=96):
        super().__init__()
        self.time = nn.Embedding(STEPS, 32)
        self.inp = nn.Linear(2 + 32, hidden)
        self.mid = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(2))
        self.out = nn.Linear(hidden, 2)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x, t):
        h = nn.functional.silu(self.inp(torch.cat([x, self.time(t)], 1)))
        for layer in self.mid:
            h = h + nn.functional.silu(layer(h))
        return self.out(h)


roll, _ = make_swiss_roll(4000, noise=0.2, random_state=4)
data = torch.tensor(roll[:, [0, 2]] / 7.0, dtype=torch.float32)
net = Denoiser()
ema = {k: v.clone() for k, v in net.state_dict().items()}
opt = torch.optim.AdamW(net.parameters(), lr=2e-3)
window = []
for step in range(1, 801):
    x0 = data[torch.randint(0, len(data), (128,))]
    t = torch.randint(0, STEPS, (128,))
    noise = torch.randn_like(x0)
    xt = alpha_bar[t].sqrt()[:, None] * x0 + (1 - alpha_bar[t]).sqrt()[:, None] * noise
    loss = ((net(xt, t) - noise) ** 2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    for k, v in net.state_dict().items():
        ema[k].lerp_(v, 0.01)
    window.append(loss.item())
    if step % 100 == 0:
        print(f"step {step} loss {sum(window[-100:]) / 100:.4f}")

net.load_state_dict(ema)
with torch.no_grad():
    x = torch.randn(500, 2)
    for t in reversed(range(STEPS)):
        eps = net(x, torch.full((500,), t))
        x = (x - beta[t] / math.sqrt(1 - alpha_bar[t]) * eps) / math.sqrt(1 - beta[t])
        if t:
            x = x + beta[t].sqrt() * torch.randn_like(x)
    print(f"distance of samples to the data {torch.cdist(x, data).min(1).values.mean().item():.3f}")
