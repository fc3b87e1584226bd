"""Mixture density network for the inverse problem of a bimodal robot arm."""
import torch
from torch import nn
from torch.distributions import Categorical, MixtureSameFamily, Normal


class MDN(nn.Module):
    def __init__(self, k=5, width=40):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())
        self.pi = nn.Linear(width, k)
        self.mean = nn.Linear(width, k)
        self.spread = nn.Linear(width, k)

    def forward(self, x):
        h = self.trunk(x)
        return self.pi(h), self.mean(h), nn.functional.relu(self.spread(h))


def nll(pi, mean, sigma, y):
    logw = torch.log_softmax(pi, dim=-1)
    z = (y - mean) / sigma
    return -torch.logsumexp(logw - 0.5 * z * z - torch.log(sigma), dim=-1).mean()


torch.manual_seed(11)
y = torch.rand(1024, 1) * 2 - 1
x = y + 0.3 * torch.sin(6.28 * y) + 0.05 * torch.randn_like(y)
model = MDN()
opt = torch.optim.RMSprop(model.parameters(), lr=1e-3)
for it in range(250):
    pick = torch.randint(0, 1024, (128,))
    opt.zero_grad()
    loss = nll(*model(x[pick]), y[pick])
    loss.backward()
    opt.step()
print("nll", loss.item())
