"""GraphSAGE by hand: predict a node's standardised log income from its neighbours."""
import torch
from torch import nn


def random_graph(n=400, k=6, d=8):
    pos = torch.rand(n, 2)
    dist = torch.cdist(pos, pos)
    nbr = dist.topk(k + 1, largest=False).indices[:, 1:]
    x = torch.randn(n, d)
    signal = x[:, 0] + x[nbr][..., 1].mean(1) * 2 - 2.2 * (pos[:, 0] - 0.5) ** 2
    y = (signal - signal.mean()) / signal.std() - 1.0
    return x, nbr, y + 0.1 * torch.randn(n)


class SageLayer(nn.Module):
    def __init__(self, d_in, d_out):
        super().__init__()
        self.own = nn.Linear(d_in, d_out)
        self.agg = nn.Linear(d_in, d_out, bias=False)

    def forward(self, x, nbr):
        return self.own(x) + self.agg(x[nbr].mean(1))


class NodeRegressor(nn.Module):
    def __init__(self, d, h=32):
        super().__init__()
        self.l1, self.l2 = SageLayer(d, h), SageLayer(h, h)
        self.out = nn.Linear(h, 1)

    def forward(self, x, nbr):
        x = torch.relu(self.l1(x, nbr))
        x = torch.relu(self.l2(x, nbr))
        return self.out(x).squeeze(1)


def main():
    torch.manual_seed(14)
    x, nbr, y = random_graph()
    mask = torch.rand(len(y)) < 0.75
    model = NodeRegressor(x.shape[1])
    opt = torch.optim.Adam(model.parameters(), lr=5e-3, weight_decay=1e-4)
    best = float("inf")
    for epoch in range(1, 301):
        pred = model(x, nbr)
        loss = (pred - y)[mask].square().mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        if epoch % 25 == 0:
            with torch.no_grad():
                val = (model(x, nbr) - y)[~mask].square().mean().item()
            best = min(best, val)
            print(f"epoch {epoch:3d} train {loss.item():.4f} val {val:.4f}")
    print(f"best val {best:.4f}")


main()
