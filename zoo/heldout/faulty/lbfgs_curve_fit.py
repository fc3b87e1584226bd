import torch

torch.manual_seed(321)
# fit a decay curve A*exp(-k t) + c to lab measurements (raw tensors, closure)
t = torch.linspace(0, 8, 120)
y = 2.5 * torch.exp(-0.9 * t) + 0.4 + 0.02 * torch.randn(120)

W = torch.randn(1, 20) * 0.5
b = torch.randn(20) * 0.5
V = torch.randn(20, 1) * 0.3
c = torch.zeros(1)
params = [W, b, V, c]
for p in params:
    p.requires_grad_(True)


def model(t):
    h = torch.tanh(t[:, None] @ W + b)
    z = (h @ V + c).squeeze(1)
    return torch.log(z)


opt = torch.optim.LBFGS(params, lr=0.5, max_iter=8, history_size=10)
target = torch.log(y)
for outer in range(25):
    def closure():
        opt.zero_grad()
        loss = ((model(t) - target) ** 2).mean()
        loss.backward()
        return loss

    loss = opt.step(closure)
    if outer % 4 == 0:
        print(f"outer {outer} loss {loss.item():.6f}")
