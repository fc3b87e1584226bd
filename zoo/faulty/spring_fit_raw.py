# Fit a force-extension curve with a cubic polynomial.
import torch

torch.manual_seed(0)
x = torch.linspace(-1, 1, 200)
force = 1.5 * x - 0.8 * x ** 3 + 0.3 * x ** 2 + 0.05 * torch.randn(200)

features = torch.stack([torch.ones_like(x), x, x ** 2, x ** 3], dim=1)
features = features / features.std(0).clamp(min=1.0)
coef = torch.zeros(4, requires_grad=True)
lr = 0.2

for it in range(200):
    residual = features @ coef - force
    loss = (residual ** 2).mean()
    loss.backward()
    with torch.no_grad():
        coef -= lr * coef.grad
    if it % 20 == 0 or it == 199:
        print(f"{it:4d} loss {loss.item():.5f}")
