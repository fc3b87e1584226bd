import torch
from torch import nn


class ReZero(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.a, self.b = nn.Linear(d, d), nn.Linear(d, d)
        self.alpha = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x + self.alpha * self.b(torch.relu(self.a(x)))


torch.manual_seed(34)
net = nn.Sequential(nn.Linear(6, 32), *[ReZero(32) for _ in range(24)], nn.Linear(32, 1))
opt = torch.optim.Adam(net.parameters(), lr=2e-3)
hist = []
for t in range(180):
    x = torch.rand(64, 6) * 2 - 1
    y = torch.sin(3 * x[:, :1]) * x[:, 1:2] + x[:, 2:3] ** 2 - x[:, 3:4]
    loss = (net(x) - y).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    hist.append(loss.item())
    if t % 30 == 29:
        print(t + 1, round(sum(hist[-30:]) / 30, 5))
