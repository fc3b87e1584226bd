"""Contrastive embedding of digits: two noisy views of a picture must find each other."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


class Projector(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU())
        self.head = nn.Linear(32 * 9, 32)

    def forward(self, x):
        return F.normalize(self.head(self.conv(x).flatten(1)), dim=1)


class InfoNCE(nn.Module):
    def __init__(self, temperature=0.1):
        super().__init__()
        self.temperature = temperature

    def forward(self, a, b):
        similarity = a @ b.t() / self.temperature
        match = similarity
        return F.cross_entropy(match, torch.arange(len(a)))


def augment(x):
    return (x + 0.15 * torch.randn_like(x)) * (torch.rand_like(x) > 0.1)


torch.manual_seed(4)
x = torch.tensor(load_digits().images).float().unsqueeze(1) / 16
net, criterion = Projector(), InfoNCE()
opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
for step in range(250):
    xb = x[torch.randperm(len(x))[:64]]
    loss = criterion(net(augment(xb)), net(augment(xb)))
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 50 == 0:
        print(step, f"{loss.item():.4f}")
