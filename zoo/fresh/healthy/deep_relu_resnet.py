"""A sixty-layer residual network with zero-initialised branches and a big width of sparse ReLUs."""
import torch
from sklearn.datasets import load_digits
from torch import nn


class Res(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.norm, self.a, self.b = nn.LayerNorm(d), nn.Linear(d, 2 * d), nn.Linear(2 * d, d)
        nn.init.zeros_(self.b.weight)
        nn.init.zeros_(self.b.bias)

    def forward(self, x):
        return x + self.b(torch.relu(self.a(self.norm(x))))


torch.manual_seed(0)
d = load_digits()
x, y = torch.tensor(d.data).float() / 16, torch.tensor(d.target)
net = nn.Sequential(nn.Linear(64, 32), *[Res(32) for _ in range(30)], nn.LayerNorm(32), nn.Linear(32, 10))
opt = torch.optim.AdamW(net.parameters(), lr=1e-3)
warm = torch.optim.lr_scheduler.LinearLR(opt, 0.05, 1.0, 30)
for step in range(200):
    pick = torch.randint(0, len(x), (64,))
    loss = nn.functional.cross_entropy(net(x[pick]), y[pick], label_smoothing=0.1)
    opt.zero_grad()
    loss.backward()
    opt.step()
    warm.step()
    if step % 40 == 0:
        print(step, loss.item())
