import torch
from torch import nn


class Sine(nn.Module):
    def __init__(self, i, o, omega=30.0, first=False):
        super().__init__()
        self.lin, self.omega = nn.Linear(i, o), omega
        bound = 1 / i if first else (6 / i) ** 0.5 / omega
        nn.init.uniform_(self.lin.weight, -bound, bound)

    def forward(self, x):
        return torch.sin(self.omega * self.lin(x))


torch.manual_seed(82)
axis = torch.linspace(-1, 1, 32)
xy = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
target = (torch.sin(9 * xy[:, :1] * xy[:, 1:]) + (xy.norm(dim=1, keepdim=True) < 0.5).float() - 0.3)
siren = nn.Sequential(Sine(2, 48, first=True), Sine(48, 48), Sine(48, 48), nn.Linear(48, 1))
opt = torch.optim.Adam(siren.parameters(), lr=5e-4)
for it in range(220):
    rows = torch.randint(0, len(xy), (400,))
    loss = (siren(xy[rows]) - target[rows]).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    if it % 40 == 19 or it == 219:
        print("it", it + 1, "mse", round(loss.item(), 5))
