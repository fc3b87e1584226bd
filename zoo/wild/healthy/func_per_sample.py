"""Differentially private SGD in functional style."""
import torch
from torch import nn
from torch.func import functional_call, grad_and_value, vmap
from sklearn.datasets import load_iris


def model_fn():
    return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3))


net = model_fn()


def sample_loss(params, x, y):
    logits = functional_call(net, params, (x.unsqueeze(0),))
    return nn.functional.cross_entropy(logits, y.unsqueeze(0))


per_sample = vmap(grad_and_value(sample_loss), in_dims=(None, 0, 0))


def private_mean(grads, max_norm, sigma, gen):
    norms = torch.stack([g.flatten(1).norm(dim=1) for g in grads.values()]).norm(dim=0)
    factor = (max_norm / norms).clamp(max=1)
    n = len(norms)
    out = {}
    for k, g in grads.items():
        total = (g * factor.view(-1, *[1] * (g.dim() - 1))).sum(0)
        out[k] = (total + sigma * max_norm * torch.randn(total.shape, generator=gen)) / n
    return out


def main(steps=400, batch=40, lr=0.5, max_norm=1.0, sigma=0.6):
    gen = torch.Generator().manual_seed(9)
    torch.manual_seed(9)
    d = load_iris()
    x = torch.tensor((d.data - d.data.mean(0)) / d.data.std(0), dtype=torch.float32)
    y = torch.tensor(d.target)
    perm = torch.randperm(150, generator=gen)
    train, test = perm[:110], perm[110:]
    params = {k: v.detach().clone() for k, v in model_fn().named_parameters()}
    for step in range(1, steps + 1):
        rows = train[torch.randint(0, len(train), (batch,), generator=gen)]
        grads, losses = per_sample(params, x[rows], y[rows])
        update = private_mean(grads, max_norm, sigma, gen)
        params = {k: p - lr * update[k] for k, p in params.items()}
        if step % 40 == 0:
            logits = functional_call(net, params, (x[test],))
            acc = (logits.argmax(1) == y[test]).float().mean().item()
            print(f"step {step} loss {losses.mean().item():.4f} test acc {acc:.4f}")


if __name__ == "__main__":
    main()
