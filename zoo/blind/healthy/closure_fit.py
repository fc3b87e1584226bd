import torch
from torch import nn

torch.manual_seed(66)
x = torch.linspace(-2, 2, 120).unsqueeze(1)
y = torch.sin(3 * x) + 0.3 * x ** 2
net = nn.Sequential(nn.Linear(1, 20), nn.Tanh(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 1))
opt = torch.optim.LBFGS(net.parameters(), lr=1.0, max_iter=8, history_size=12, line_search_fn="strong_wolfe")


def closure():
    opt.zero_grad()
    loss = nn.functional.mse_loss(net(x), y)
    loss.backward()
    return loss


for k in range(60):
    value = opt.step(closure)
    if k % 10 == 9:
        print("outer", k + 1, "mse", f"{value.item():.6f}")
