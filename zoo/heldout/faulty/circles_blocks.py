import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import make_circles

torch.manual_seed(331)
Xn, yn = make_circles(1200, noise=0.08, factor=0.45, random_state=0)
X, y = torch.tensor(Xn).float() * 1.5, torch.tensor(yn).float()


def init_(m):
    if isinstance(m, nn.Linear):
        nn.init.trunc_normal_(m.weight, std=0.002)
        nn.init.zeros_(m.bias)


class HighwayBlock(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.lin1, self.lin2 = nn.Linear(d, d), nn.Linear(d, d)

    def forward(self, x):
        return F.silu(self.lin2(F.silu(self.lin1(x))))


net = nn.Sequential(nn.Linear(2, 48), *[HighwayBlock(48) for _ in range(3)], nn.Linear(48, 1))
net.apply(init_)
ema = [p.detach().clone() for p in net.parameters()]
opt = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
for step in range(1, 251):
    i = torch.randint(0, 1000, (64,))
    loss = F.binary_cross_entropy_with_logits(net(X[i]).squeeze(1), y[i])
    opt.zero_grad()
    loss.backward()
    opt.step()
    with torch.no_grad():
        for e, p in zip(ema, net.parameters()):
            e.lerp_(p, 0.02)
    if step % 30 == 0:
        with torch.no_grad():
            v = F.binary_cross_entropy_with_logits(net(X[1000:]).squeeze(1), y[1000:]).item()
        print(f"step {step} train {loss.item():.4f} val {v:.4f}")
