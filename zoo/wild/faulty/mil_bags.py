import torch
from torch import nn
from torch.nn import functional as F


class Bag(nn.Module):
    """Attention-free multiple-instance classifier."""

    def __init__(self, d=6, width=48, code=8):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(d, width), nn.ReLU(), nn.Linear(width, code), nn.ReLU())
        self.head = nn.Linear(2 * code, 1)
        self.cache = {}

    def forward(self, bag, key=None):
        feats = self.encoder(bag)
        if key is not None:
            self.cache[key] = feats.detach()
            feats = self.cache[key]
        pooled = torch.cat([feats.mean(1), feats.amax(1)], 1)
        return self.head(pooled).squeeze(1)


def bags(n, size=10, d=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, size, d, generator=g)
    y = (torch.rand(n, generator=g) < 0.5).float()
    w = torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0, -1.0])
    for i in range(n):
        if y[i]:
            j = torch.randint(size, (1,), generator=g)
            x[i, j] = 1.3 * w * (1 if torch.rand(1, generator=g) < 0.5 else -1) + 0.3 * torch.randn(1, d, generator=g)
    return x, y


def main():
    torch.manual_seed(0)
    x, y = bags(1600)
    vx, vy = bags(500, seed=1)
    model = Bag()
    opt = torch.optim.Adam(model.parameters(), lr=3e-3)
    for epoch in range(15):
        losses = []
        for k, rows in enumerate(torch.randperm(len(x)).split(40)):
            opt.zero_grad()
            loss = F.binary_cross_entropy_with_logits(model(x[rows], key=k), y[rows])
            loss.backward()
            opt.step()
            losses.append(loss.item())
        with torch.no_grad():
            out = model(vx)
        if epoch % 2 == 0:
            print(f"{epoch:3d} loss {sum(losses) / len(losses):.4f} val {F.binary_cross_entropy_with_logits(out, vy).item():.4f}"
                  f" acc {((out > 0).float() == vy).float().mean().item():.3f}")


main()
