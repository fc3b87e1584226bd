import torch
from sklearn.datasets import load_digits
from torch import nn


class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr=3e-4, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_((b1 * m + (1 - b1) * p.grad).sign(), alpha=-group["lr"])
                m.mul_(b2).add_(p.grad, alpha=1 - b2)


class Mixer(nn.Module):
    def __init__(self, patches=16, d=32):
        super().__init__()
        self.inp = nn.Linear(4, d)
        self.n1, self.n2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.tokens = nn.Sequential(nn.Linear(patches, 32), nn.GELU(), nn.Linear(32, patches))
        self.channels = nn.Sequential(nn.Linear(d, 64), nn.GELU(), nn.Linear(64, d))
        self.head = nn.Linear(d, 10)

    def forward(self, img):
        p = img.unfold(1, 2, 2).unfold(2, 2, 2).reshape(len(img), 16, 4)
        h = self.inp(p)
        h = h + self.tokens(self.n1(h).transpose(1, 2)).transpose(1, 2)
        h = h + self.channels(self.n2(h))
        return self.head(h.mean(1))


torch.manual_seed(27)
d = load_digits()
x, y = torch.tensor(d.images / 8 - 1).float(), torch.tensor(d.target)
net = Mixer()
opt = Lion(net.parameters(), lr=1e-3, weight_decay=0.05)
for epoch in range(12):
    for rows in torch.randperm(1500).split(50):
        loss = nn.functional.cross_entropy(net(x[rows]), y[rows])
        opt.zero_grad()
        loss.backward()
        opt.step()
    if epoch % 2:
        print(f"epoch {epoch} loss {loss.item():.4f}")
with torch.no_grad():
    print(f"accuracy {(net(x[1500:]).argmax(1) == y[1500:]).float().mean().item():.3f}")
