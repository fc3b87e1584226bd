import math
import torch
from torch import nn

torch.manual_seed(6)


class SineLayer(nn.Module):
    def __init__(self, i, o, first=False, omega=20.0):
        super().__init__()
        self.omega = omega
        self.linear = nn.Linear(i, o)
        with torch.no_grad():
            lim = 1 / i if first else math.sqrt(6 / i) / omega
            self.linear.weight.uniform_(-lim, lim)

    def forward(self, x):
        return torch.sin(self.omega * self.linear(x))


class Siren(nn.Module):
    def __init__(self, hidden=64, layers=3):
        super().__init__()
        net = [SineLayer(2, hidden, first=True)]
        net += [SineLayer(hidden, hidden) for _ in range(layers)]
        self.net = nn.Sequential(*net)
        self.final = nn.Linear(hidden, 1)
        with torch.no_grad():
            self.final.weight.uniform_(-math.sqrt(6 / hidden) / 20, math.sqrt(6 / hidden) / 20)

    def forward(self, x):
        return self.final(self.net(x))


g = torch.linspace(-1, 1, 40)
coords = torch.stack(torch.meshgrid(g, g, indexing="ij"), -1).reshape(-1, 2)
r = coords.norm(dim=1, keepdim=True)
pixels = torch.cos(9 * r) * torch.exp(-r) + 0.3 * torch.sign(coords[:, :1] * coords[:, 1:])

img_siren = Siren()
optim = torch.optim.Adam(img_siren.parameters(), lr=5e-4)
sched = torch.optim.lr_scheduler.LambdaLR(optim, lambda s: min(1.0, (s + 1) / 30))
for step in range(150):
    loss = ((img_siren(coords) - pixels) ** 2).mean()
    optim.zero_grad()
    loss.backward()
    optim.step()
    sched.step()
    if step % 25 == 0 or step == 149:
        psnr = 10 * math.log10(4.0 / loss.item())
        print(f"Step {step}, loss {loss.item():.6f}, psnr {psnr:.2f}")
