"""First-order meta-learning of sines with torch.func."""
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

META_LR = 0.02
INNER_LR = 0.02

net = nn.Sequential(nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1))


def loss_fn(params, x, y):
    return nn.functional.mse_loss(functional_call(net, params, (x,)), y)


def adapt_and_test(params, xs, ys, xq, yq):
    g = grad(loss_fn)(params, xs, ys)
    fast = {k: p - INNER_LR * g[k] for k, p in params.items()}
    return loss_fn(fast, xq, yq)


def tasks(n, k=10):
    amp, phase = 0.5 + 2 * torch.rand(n, 1, 1), 3.14 * torch.rand(n, 1, 1)
    x = 10 * torch.rand(n, 2 * k, 1) - 5
    y = amp * torch.sin(x + phase)
    return x[:, :k], y[:, :k], x[:, k:], y[:, k:]


torch.manual_seed(0)
params = dict(net.named_parameters())
meta = torch.optim.SGD(params.values(), lr=META_LR)
for step in range(200):
    batch = tasks(16)
    loss = vmap(adapt_and_test, in_dims=(None, 0, 0, 0, 0))(params, *batch).mean()
    meta.zero_grad()
    loss.backward()
    meta.step()
    if step % 20 == 0:
        print(step, loss.item())
