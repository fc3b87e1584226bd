import torch
from torch import nn, optim

torch.manual_seed(101)


def real_batch(n):
    a = torch.rand(n) * 2 * torch.pi
    r = torch.where(torch.rand(n) < 0.5, 1.0, 2.0)
    return torch.stack([r * a.cos(), r * a.sin()], 1) + 0.05 * torch.randn(n, 2)


G = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
D = nn.Sequential(nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))
opt_g = optim.RMSprop(G.parameters(), lr=5e-4)
opt_d = optim.RMSprop(D.parameters(), lr=5e-4)


def energy_distance(x, y):
    return (2 * torch.cdist(x, y).mean() - torch.cdist(x, x).mean() - torch.cdist(y, y).mean()).item()


for it in range(1, 201):
    for _ in range(3):
        fake = G(torch.randn(128, 4)).detach()
        real = real_batch(128)
        eps = torch.rand(128, 1)
        mix = (eps * real + (1 - eps) * fake).requires_grad_(True)
        gr = torch.autograd.grad(D(mix).sum(), mix, create_graph=True)[0]
        gp = ((gr.norm(2, dim=1) - 1) ** 2).mean()
        loss_d = D(fake).mean() - D(real).mean() + 5.0 * gp
        loss_d.backward()
        opt_d.step()
    loss_g = -D(G(torch.randn(128, 4))).mean()
    opt_g.zero_grad()
    loss_g.backward()
    opt_g.step()
    if it % 25 == 0:
        with torch.no_grad():
            ed = energy_distance(G(torch.randn(512, 4)), real_batch(512))
        print(f"it {it} D {loss_d.item():.4f} G {loss_g.item():.4f} energy distance {ed:.4f}")
