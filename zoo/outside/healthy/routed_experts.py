import torch
import torch.nn as nn
import torch.nn.functional as F


class Expert(nn.Sequential):
    def __init__(self, d, h):
        super().__init__(nn.Linear(d, h), nn.ReLU(), nn.Linear(h, d))


class SwitchLayer(nn.Module):
    def __init__(self, d, n):
        super().__init__()
        self.router = nn.Linear(d, n, bias=False)
        self.experts = nn.ModuleList(Expert(d, 2 * d) for _ in range(n))

    def forward(self, x):
        gate = self.router(x).softmax(-1)
        weight, pick = gate.max(-1)
        out = torch.zeros_like(x)
        for k, expert in enumerate(self.experts):
            rows = (pick == k).nonzero().flatten()
            if len(rows):
                out = out.index_add(0, rows, expert(x[rows]) * weight[rows, None])
        share = F.one_hot(pick, len(self.experts)).float().mean(0)
        return x + out, len(self.experts) * (share * gate.mean(0)).sum()


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp = nn.Linear(6, 32)
        self.moe = nn.ModuleList([SwitchLayer(32, 8), SwitchLayer(32, 8)])
        self.out = nn.Linear(32, 1)

    def forward(self, x):
        h, aux = self.inp(x), 0.0
        for layer in self.moe:
            h, a = layer(h)
            aux = aux + a
        return self.out(h).squeeze(1), aux


def task(n):
    x = torch.randn(n, 6)
    region = (x[:, 0] > 0).long() * 2 + (x[:, 1] > 0).long()
    forms = torch.stack([x[:, 2] * x[:, 3], x[:, 4].abs(), torch.sin(2 * x[:, 5]), x[:, 2] - x[:, 3]], 1)
    return x, forms.gather(1, region[:, None]).squeeze(1)


torch.manual_seed(10)
model = Model()
opt = torch.optim.Adam(model.parameters(), lr=3e-3)
for step in range(1, 601):
    x, y = task(48)
    pred, aux = model(x)
    fit = F.mse_loss(pred, y)
    loss = fit + 0.01 * aux
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 100 == 0:
        with torch.no_grad():
            x, y = task(2000)
            print(f"step {step} loss {loss.item():.4f} validation {F.mse_loss(model(x)[0], y).item():.4f} of {y.var().item():.3f}")
