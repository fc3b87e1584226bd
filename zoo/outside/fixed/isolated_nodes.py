import torch
import torch.nn as nn
import torch.nn.functional as F


class MeanGather(nn.Module):
    def forward(self, h, src, dst):
        total = torch.zeros_like(h).index_add_(0, dst, h[src])
        count = torch.zeros(h.shape[0], 1).index_add_(0, dst, torch.ones(len(dst), 1))
        return total / count.clamp(min=1)


class SageLayer(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.gather = MeanGather()
        self.own, self.other = nn.Linear(i, o), nn.Linear(i, o)

    def forward(self, h, src, dst):
        return self.own(h) + self.other(self.gather(h, src, dst))


class Sage(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = SageLayer(6, 32), SageLayer(32, 32)
        self.readout = nn.Linear(32, 1)

    def forward(self, h, src, dst):
        h = F.relu(self.conv1(h, src, dst))
        h = F.relu(self.conv2(h, src, dst))
        return self.readout(h).squeeze(1)


def random_graph(n, p, gen):
    pick = torch.rand(n, n, generator=gen) < p
    pick.fill_diagonal_(False)
    src, dst = pick.nonzero(as_tuple=True)
    x = torch.randn(n, 6, generator=gen)
    total = torch.zeros(n).index_add_(0, dst, x[src, 0])
    degree = torch.zeros(n).index_add_(0, dst, torch.ones(len(dst)))
    return x, src, dst, total / degree.clamp(min=1) + 0.5 * x[:, 1] ** 2


gen = torch.Generator().manual_seed(27)
torch.manual_seed(27)
sage = Sage()
optimizer = torch.optim.Adam(sage.parameters(), lr=3e-3)
graphs = [random_graph(40, 0.12, gen) for _ in range(40)]
for epoch in range(8):
    acc = 0.0
    for x, src, dst, y in graphs:
        loss = F.mse_loss(sage(x, src, dst), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        acc += loss.item()
    print(f"epoch {epoch} mean loss {acc / len(graphs):.4f}")
