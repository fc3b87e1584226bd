"""Half-precision matmuls through a custom autograd Function."""
import torch
from torch import nn


class HalfLinearFn(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w, b):
        xh, wh = x.half(), w.half()
        ctx.save_for_backward(xh, wh)
        return (xh @ wh.t()).float() + b

    @staticmethod
    def backward(ctx, grad):
        xh, wh = ctx.saved_tensors
        g = grad.half()
        return (g @ wh).float(), (g.t() @ xh).float(), g.float().sum(0)


class HalfLinear(nn.Linear):
    def forward(self, x):
        return HalfLinearFn.apply(x, self.weight, self.bias)


class FieldNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.lift = HalfLinear(3, 64)
        self.mid = HalfLinear(64, 64)
        self.read = HalfLinear(64, 1)

    def forward(self, p):
        h = torch.tanh(self.lift(p))
        return self.read(torch.tanh(self.mid(h))).squeeze(-1)


def field_samples(n):
    p = torch.rand(n, 3) * 2 - 1
    return p, 1e-3 * (torch.sin(3 * p[:, 0]) * p[:, 1] + p[:, 2] ** 2)


def relative_error(net, p, v):
    with torch.no_grad():
        return ((net(p) * UNIT - v).square().mean() / v.var()).item()


UNIT = 1e-3
SCALE = 1.0

torch.manual_seed(27)
p, v = field_samples(4000)
pt, vt = field_samples(800)
net = FieldNet()
opt = torch.optim.Adam(net.parameters(), lr=3e-3, eps=1e-16)
for step in range(1, 601):
    rows = torch.randint(0, len(p), (128,))
    loss = (net(p[rows]) * UNIT - v[rows]).square().mean()
    opt.zero_grad()
    (loss * SCALE).backward()
    for q in net.parameters():
        q.grad /= SCALE
    opt.step()
    if step % 100 == 0:
        print(f"step {step} loss {loss.item():.3e} relative error {relative_error(net, pt, vt):.4f}")
