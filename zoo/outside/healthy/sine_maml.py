"""Second-order MAML with torch.func."""
import torch
from torch import nn
from torch.func import functional_call

torch.manual_seed(12)
net = nn.Sequential(nn.Linear(1, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 1))
meta = torch.optim.Adam(net.parameters(), lr=2e-3)
INNER_LR = 0.05


def task():
    amp, phase = torch.rand(()) * 4.5 + 0.5, torch.rand(()) * 3.14

    def draw(n):
        x = torch.rand(n, 1) * 10 - 5
        return x / 3, amp * torch.sin(x + phase)

    return draw


def adapt(params, x, y, steps=2):
    for _ in range(steps):
        loss = nn.functional.mse_loss(functional_call(net, params, (x,)), y)
        grads = torch.autograd.grad(loss, list(params.values()), create_graph=True)
        params = {k: p - INNER_LR * g for (k, p), g in zip(params.items(), grads)}
    return params


log = []
for it in range(1, 501):
    outer = 0.0
    for _ in range(4):
        draw = task()
        fast = adapt(dict(net.named_parameters()), *draw(10))
        xq, yq = draw(15)
        outer = outer + nn.functional.mse_loss(functional_call(net, fast, (xq,)), yq) / 4
    meta.zero_grad()
    outer.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 10.0)
    meta.step()
    log.append(outer.item())
    if it % 100 == 0:
        print(f"meta step {it} outer loss {sum(log[-100:]) / 100:.3f} (last {log[-1]:.3f})")
