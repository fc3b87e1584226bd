"""Spirals without modules: parameters in a dict, gradients by autograd.grad, updates by hand."""
import math

import torch


def init_params(sizes, gen):
    params = {}
    for i, (n_in, n_out) in enumerate(zip(sizes, sizes[1:])):
        params[f"w{i}"] = torch.randn(n_in, n_out, generator=gen).requires_grad_()
        params[f"b{i}"] = torch.zeros(n_out, requires_grad=True)
    return params


def forward(params, x, depth):
    for i in range(depth):
        x = x @ params[f"w{i}"] + params[f"b{i}"]
        if i < depth - 1:
            x = torch.relu(x)
    return x


def spirals(n, gen):
    label = torch.randint(0, 2, (n,), generator=gen)
    t = 0.8 * torch.rand(n, generator=gen) + 0.2
    angle = 2 * math.pi * t + math.pi * label
    xy = torch.stack([t * angle.cos(), t * angle.sin()], 1) 
    return xy + 0.03 * torch.randn(n, 2, generator=gen), label


def main():
    gen = torch.Generator().manual_seed(0)
    sizes = [2, 160, 160, 160, 160, 160, 2]
    params = init_params(sizes, gen)
    for step in range(350):
        x, y = spirals(128, gen)
        loss = torch.nn.functional.cross_entropy(forward(params, x, len(sizes) - 1), y)
        grads = torch.autograd.grad(loss, list(params.values()))
        with torch.no_grad():
            for p, g in zip(params.values(), grads):
                p -= 0.05 * g
        if step % 50 == 0:
            print(step, loss.item())


if __name__ == "__main__":
    main()
