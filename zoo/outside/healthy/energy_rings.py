import torch
import torch.nn as nn

torch.manual_seed(32)


def ring(n):
    a = torch.rand(n) * 6.2832
    r = 1.0 + 0.05 * torch.randn(n)
    return torch.stack([r * a.cos(), r * a.sin()], 1)


energy = nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))
opt = torch.optim.Adam(energy.parameters(), lr=2e-3)
buffer = torch.rand(1024, 2) * 4 - 2


def langevin(x, steps=15, size=0.03):
    for p in energy.parameters():
        p.requires_grad_(False)
    for _ in range(steps):
        x = x.detach().requires_grad_(True)
        g = torch.autograd.grad(energy(x).sum(), x)[0].clamp(-5, 5)
        x = x - size * g + (2 * size) ** 0.5 * 0.1 * torch.randn_like(x)
    for p in energy.parameters():
        p.requires_grad_(True)
    return x.detach().clamp(-3, 3)


for step in range(1, 401):
    pick = torch.randint(0, 1024, (96,))
    start = torch.where(torch.rand(96, 1) < 0.05, torch.rand(96, 2) * 4 - 2, buffer[pick])
    fake = langevin(start)
    buffer[pick] = fake
    e_real, e_fake = energy(ring(96)), energy(fake)
    loss = e_real.mean() - e_fake.mean() + 0.02 * (e_real.square().mean() + e_fake.square().mean())
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 50 == 0:
        off = (buffer.norm(dim=1) - 1).abs().mean().item()
        print(f"step {step} loss {loss.item():+.4f} distance of the samples from the ring {off:.3f}")
