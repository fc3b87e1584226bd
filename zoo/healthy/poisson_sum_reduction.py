# Poisson regression by gradient descent on the total negative log-likelihood.
import torch

torch.manual_seed(0)
X = torch.randn(500, 4)
w_true = torch.tensor([0.5, -0.4, 0.3, 0.0])
counts = torch.poisson((X @ w_true + 1.0).exp())

w = torch.zeros(4, requires_grad=True)
b = torch.zeros(1, requires_grad=True)
lr = 1e-5
for it in range(200):
    eta = X @ w + b
    loss = (eta.exp() - counts * eta + torch.lgamma(counts + 1)).sum()
    grads = torch.autograd.grad(loss, (w, b))
    with torch.no_grad():
        for p, g in zip((w, b), grads):
            p.sub_(lr * g)
    if it % 20 == 0 or it == 199:
        norm = torch.cat([g.flatten() for g in grads]).norm().item()
        print(f"{it} loss {loss.item():.3f} gradient {norm:.3f}")
