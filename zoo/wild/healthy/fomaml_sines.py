"""MAML on sinusoid tasks, functional style."""
import math

import torch
import torch.nn.functional as F


def init_params(sizes, gen):
    params = []
    for a, b in zip(sizes, sizes[1:]):
        w = torch.randn(b, a, generator=gen) * math.sqrt(2 / a)
        params += [w.requires_grad_(), torch.zeros(b, requires_grad=True)]
    return params


def net(params, x):
    x = x / 5
    for i in range(0, len(params) - 2, 2):
        x = F.relu(F.linear(x, params[i], params[i + 1]))
    return F.linear(x, params[-2], params[-1])


def adapt(params, x, y, alpha, steps, second_order=True):
    fast = params
    for _ in range(steps):
        loss = F.mse_loss(net(fast, x), y)
        grads = torch.autograd.grad(loss, fast, create_graph=second_order)
        fast = [p - alpha * g for p, g in zip(fast, grads)]
    return fast


class Task:
    def __init__(self, gen):
        self.amp = 0.5 + 3 * torch.rand(1, generator=gen)
        self.phase = math.pi * torch.rand(1, generator=gen)
        self.gen = gen

    def draw(self, n):
        x = torch.rand(n, 1, generator=self.gen) * 10 - 5
        return x, self.amp * torch.sin(x - self.phase)


def main():
    gen = torch.Generator().manual_seed(2)
    params = init_params([1, 40, 40, 1], gen)
    meta_opt = torch.optim.Adam(params, lr=2e-3)
    history = []
    for it in range(1, 401):
        meta_loss = 0.0
        for _ in range(5):
            task = Task(gen)
            fast = adapt(params, *task.draw(10), alpha=0.05, steps=1)
            xq, yq = task.draw(10)
            meta_loss = meta_loss + F.mse_loss(net(fast, xq), yq) / 5
        meta_opt.zero_grad()
        meta_loss.backward()
        meta_opt.step()
        history.append(meta_loss.item())
        if it % 50 == 0:
            print(f"iteration {it}: query mse after one step {sum(history[-50:]) / 50:.4f}")


main()
