"""Fifty floors of ReLU on the two moons."""
import math

import torch
from sklearn.datasets import make_moons
from torch import nn


class Floor(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc = nn.Linear(width, width)
        nn.init.kaiming_normal_(self.fc.weight, nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, x):
        return torch.relu(self.fc(x))


class Tower(nn.Module):
    def __init__(self, floors=50, width=24):
        super().__init__()
        self.ground = nn.Linear(2, width)
        self.floors = nn.ModuleList([Floor(width) for _ in range(floors)])
        self.roof = nn.Linear(width, 1)
        self.scale = 1 / math.sqrt(floors)

    def forward(self, x):
        x = self.ground(x)
        for floor in self.floors:
            x = floor(x)
        return self.roof(x).squeeze(1)


torch.manual_seed(12)
points, side = make_moons(512, noise=0.1, random_state=0)
points, side = torch.tensor(points).float(), torch.tensor(side).float()
tower = Tower()
opt = torch.optim.SGD(tower.parameters(), lr=0.02, momentum=0.9)
for step in range(200):
    pick = torch.randint(0, 512, (64,))
    loss = nn.functional.binary_cross_entropy_with_logits(tower(points[pick]), side[pick])
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 40 == 0:
        print(step, round(loss.item(), 4))
print("end", round(loss.item(), 4))
