import numpy as np
import torch

# fit a cubic by gradient descent, the classic first example
rng = np.random.RandomState(3)
torch.manual_seed(371)
x = torch.tensor(np.linspace(-2, 2, 200), dtype=torch.float32)
y = torch.tensor(0.5 - 0.8 * x.numpy() + 0.3 * x.numpy() ** 3 + 0.1 * rng.randn(200), dtype=torch.float32)
feats = torch.stack([torch.ones_like(x), x, x ** 2, x ** 3], 1)

w = torch.zeros(4, requires_grad=True)
velocity = torch.zeros(4)
learning_rate, mu = 0.0955, 0.0
for step in range(301):
    loss = ((feats @ w - y) ** 2).mean()
    (grad,) = torch.autograd.grad(loss, w)
    with torch.no_grad():
        velocity = mu * velocity - learning_rate * grad
        w += velocity
    if step % 25 == 0 or step == 299:
        print(f"step {step:3d} loss {loss.item():.5f} w {[round(v, 3) for v in w.tolist()]}")
