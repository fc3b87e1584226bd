import torch
from torch import nn

torch.manual_seed(1017)
centers = torch.tensor([[1.5, 0], [-1.5, 0], [0, 1.5], [0, -1.5]])


def sample_real(n):
    return centers[torch.randint(0, 4, (n,))] + 0.2 * torch.randn(n, 2)


def mlp(i, o):
    return nn.Sequential(nn.Linear(i, 64), nn.LeakyReLU(0.1), nn.Linear(64, 64), nn.LeakyReLU(0.1), nn.Linear(64, o))


class GradientPenalty(nn.Module):
    def forward(self, critic, a, b):
        t = torch.rand(len(a), 1)
        m = (t * a + (1 - t) * b).requires_grad_()
        (g,) = torch.autograd.grad(critic(m).sum(), m, create_graph=True)
        return ((g.square().sum(1) + 1e-12).sqrt() - 1).square().mean()


gen, critic, penalty = mlp(3, 2), mlp(2, 1), GradientPenalty()
og = torch.optim.Adam(gen.parameters(), lr=1e-3, betas=(0.0, 0.9))
oc = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.0, 0.9))
for it in range(1, 161):
    for _ in range(3):
        real, fake = sample_real(96), gen(torch.randn(96, 3)).detach()
        lc = critic(fake).mean() - critic(real).mean() + 3 * penalty(critic, real, fake)
        oc.zero_grad()
        lc.backward()
        oc.step()
    lg = -critic(gen(torch.randn(96, 3))).mean()
    og.zero_grad()
    lg.backward()
    og.step()
    if it % 20 == 0:
        with torch.no_grad():
            f, r = gen(torch.randn(400, 3)), sample_real(400)
            ed = 2 * torch.cdist(f, r).mean() - torch.cdist(f, f).mean() - torch.cdist(r, r).mean()
        print(f"it {it} critic {lc.item():.4f} gen {lg.item():.4f} energy distance {ed.item():.4f}")
