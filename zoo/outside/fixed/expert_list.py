import math

import torch
from torch import nn


class SeriesNet(nn.Module):
    def __init__(self, window, sizes):
        super().__init__()
        dims = [window, *sizes]
        self.hidden = nn.ModuleList([nn.Linear(a, b) for a, b in zip(dims, dims[1:])])
        self.final = nn.Linear(sizes[-1], 1)

    def forward(self, x):
        for layer in self.hidden:
            x = torch.tanh(layer(x))
        return self.final(x).squeeze(-1)


def logistic_map(n, r=3.9):
    x, out = 0.3, []
    for _ in range(n):
        x = r * x * (1 - x)
        out.append(x)
    return torch.tensor(out)


torch.manual_seed(44)
series = logistic_map(3000)
series = (series - series.mean()) / series.std()
windows = series.unfold(0, 6, 1)
inputs, targets = windows[:, :4], windows[:, 5]

net = SeriesNet(4, [32, 32, 8])
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
best = math.inf
for epoch in range(24):
    total = 0.0
    for rows in torch.randperm(2400).split(60):
        loss = nn.functional.mse_loss(net(inputs[rows]), targets[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    with torch.no_grad():
        best = min(best, nn.functional.mse_loss(net(inputs[2400:]), targets[2400:]).item())
    if epoch % 4 == 3:
        print(f"epoch {epoch + 1} train {total / 40:.4f} best validation {best:.4f}")
