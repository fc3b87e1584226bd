"""Deflection (in metres) of a simply supported beam under a random load, as a field over 64 stations."""
import torch
import torch.nn as nn


def loads_and_deflections(n, gen, stations=64):
    s = torch.linspace(0, 1, stations)
    c = torch.randn(n, 4, generator=gen)
    k = torch.arange(1, 5)
    modes = torch.sin(torch.pi * k[:, None] * s[None])
    load = c @ modes
    deflection = 4e-3 * (c / k**2) @ modes
    return load, deflection


class BeamNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(64, 64), nn.GELU())
        self.mix = nn.Sequential(nn.Linear(64, 64), nn.GELU())
        self.decode = nn.Linear(64, 64)

    def forward(self, load):
        return self.decode(self.mix(self.encode(load))) * 1e-3


torch.manual_seed(61)
gen = torch.Generator().manual_seed(61)
net = BeamNet()
opt = torch.optim.Adam(net.parameters(), lr=1e-3)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20)
for it in range(300):
    load, want = loads_and_deflections(128, gen)
    with torch.autocast("cpu", dtype=torch.float16):
        got = net(load)
    loss = ((got.float() - want) ** 2).mean()
    opt.zero_grad()
    scaler.scale(loss).backward()
    scaler.step(opt)
    scaler.update()
    if it % 50 == 49:
        print(f"it {it + 1} error {loss.item() ** 0.5 * 1e3:.4f} mm, share {loss.item() / want.pow(2).mean().item():.4f}")
