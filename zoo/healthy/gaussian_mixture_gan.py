import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(2)


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, z):
        return self.net(z)


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, 32), nn.LeakyReLU(0.2), nn.Linear(32, 32), nn.LeakyReLU(0.2),
                                 nn.Linear(32, 1))

    def forward(self, x):
        return self.net(x)


def data(n):
    side = torch.randint(0, 2, (n, 1)).float() * 2 - 1
    return 1.5 * side + 0.3 * torch.randn(n, 1)


G, D = Generator(), Discriminator()
opt_g = torch.optim.Adam(G.parameters(), lr=1e-3, betas=(0.5, 0.99))
opt_d = torch.optim.Adam(D.parameters(), lr=1e-3, betas=(0.5, 0.99))
for step in range(400):
    x, z = data(64), torch.randn(64, 8)
    loss_d = F.softplus(-D(x)).mean() + F.softplus(D(G(z).detach())).mean()
    opt_d.zero_grad()
    loss_d.backward()
    opt_d.step()
    loss_g = F.softplus(-D(G(z))).mean()
    opt_g.zero_grad()
    loss_g.backward()
    opt_g.step()
    if step % 50 == 0 or step == 399:
        with torch.no_grad():
            s = G(torch.randn(1000, 8))
        print(f"step {step} loss_d {loss_d.item():.3f} loss_g {loss_g.item():.3f} std {s.std():.2f} |x| {s.abs().mean():.2f}")
