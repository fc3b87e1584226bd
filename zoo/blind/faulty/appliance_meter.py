"""Disaggregate a household meter: power level (regression) and on/off state (classification)."""
import torch
import torch.nn as nn
import torch.nn.functional as F


def seed_weights(module, gain=0.12):
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight, gain=gain)
        nn.init.zeros_(module.bias)


class MeterNet(nn.Module):
    def __init__(self, d=20, width=80):
        super().__init__()
        layers, prev = [], d
        for _ in range(5):
            layers.extend((nn.Linear(prev, width), nn.ELU()))
            prev = width
        self.trunk = nn.Sequential(*layers)
        self.heads = nn.ModuleDict({"power": nn.Linear(width, 1), "state": nn.Linear(width, 3)})

    def forward(self, x):
        z = self.trunk(x)
        return {name: head(z) for name, head in self.heads.items()}


def batches(n_steps, size=64, seed=3):
    g = torch.Generator().manual_seed(seed)
    proj = torch.randn(20, 3, generator=g)
    for _ in range(n_steps):
        x = torch.randn(size, 20, generator=g)
        s = x @ proj / 20 ** 0.5
        yield x, {"power": torch.sin(2 * s[:, :1]) + s[:, 1:2] ** 2 - 1, "state": s.argmax(1)}


torch.manual_seed(3)
net = MeterNet().apply(seed_weights)
opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True)
history = []
for step, (x, y) in enumerate(batches(240)):
    out = net(x)
    losses = {"power": F.mse_loss(out["power"], y["power"]), "state": F.cross_entropy(out["state"], y["state"])}
    total = 0.5 * losses["power"] + losses["state"]
    opt.zero_grad()
    total.backward()
    opt.step()
    history.append(total.item())
    if step % 40 == 39:
        print(step + 1, {k: round(v.item(), 3) for k, v in losses.items()}, "avg total", round(sum(history[-40:]) / 40, 4))
