import torch
from torch import nn

torch.manual_seed(7)
G = nn.Sequential(nn.Linear(4, 48), nn.LeakyReLU(0.2), nn.Linear(48, 48), nn.LeakyReLU(0.2), nn.Linear(48, 2))
D = nn.Sequential(nn.Linear(2, 48), nn.LeakyReLU(0.2), nn.Linear(48, 48), nn.LeakyReLU(0.2), nn.Linear(48, 1))
opt_g = torch.optim.Adam(G.parameters(), lr=1e-3, betas=(0.5, 0.999))
opt_d = torch.optim.Adam(D.parameters(), lr=2e-3, betas=(0.5, 0.999))
bce = nn.BCEWithLogitsLoss()
one, zero = torch.ones(64, 1), torch.zeros(64, 1)


def ring(n):
    a = 6.2832 * torch.rand(n)
    return torch.stack([a.cos(), a.sin()], 1) * 1.5 + 0.05 * torch.randn(n, 2)


for it in range(300):
    fake = G(torch.randn(64, 4))
    loss_d = bce(D(ring(64)), one) + bce(D(fake.detach()), zero)
    opt_d.zero_grad()
    loss_d.backward()
    opt_d.step()

    loss_g = bce(D(G(torch.randn(64, 4))), one)
    opt_g.zero_grad()
    loss_g.backward()
    opt_g.step()
    if it % 50 == 49:
        with torch.no_grad():
            err = (G(torch.randn(256, 4)).norm(dim=1) - 1.5).abs().mean()
        print(f"{it + 1} D {loss_d.item():.3f} G {loss_g.item():.3f} radius error {err.item():.3f}")
