"""LBFGS reaches machine precision and then does nothing for a long time."""
import torch

torch.manual_seed(0)
a = torch.randn(80, 5)
truth = torch.randn(5)
w = torch.zeros(5, requires_grad=True)
opt = torch.optim.LBFGS([w], lr=1.0, max_iter=2)


def closure():
    opt.zero_grad()
    loss = (a @ w - a @ truth).pow(2).mean()
    loss.backward()
    return loss


for i in range(60):
    loss = opt.step(closure)
print(loss.item())
