import torch
import torch.nn as nn

torch.manual_seed(50)
n = 1000
x = torch.rand(n, 1) * 6 - 3
noise = 0.02 + 0.15 * (x > 0).float() * x
y = torch.sin(2 * x) + noise * torch.randn(n, 1)
near = (x < -2.0).float()
y = y * (1 - near) + near * torch.sin(2 * x)


class GaussianNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(1, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.mean, self.scale = nn.Linear(64, 1), nn.Linear(64, 1)

    def forward(self, x):
        h = self.trunk(x)
        return self.mean(h), nn.functional.softplus(self.scale(h)) + 0.01


def gaussian_nll(mu, sigma, target):
    return (torch.log(sigma) + 0.5 * ((target - mu) / sigma) ** 2).mean()


net = GaussianNet()
opt = torch.optim.Adam(net.parameters(), lr=4e-3)
for step in range(401):
    b = torch.randint(0, n, (128,))
    mu, sigma = net(x[b])
    loss = gaussian_nll(mu, sigma, y[b])
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 50 == 0:
        print(f"{step} nll {loss.item():.4f} mean sigma {sigma.mean().item():.4f}")
