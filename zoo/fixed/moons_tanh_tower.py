import torch
import torch.nn as nn
from sklearn.datasets import make_moons

torch.manual_seed(5)
points, cls = make_moons(600, noise=0.15, random_state=5)
points = torch.tensor(points, dtype=torch.float32)
points = (points - points.mean(0)) / points.std(0)
cls = torch.tensor(cls)


class Tower(nn.Module):
    def __init__(self, width=16, depth=60):
        super().__init__()
        self.inp = nn.Linear(2, width)
        self.tower = nn.ModuleList([nn.Linear(width, width) for _ in range(depth)])
        self.head = nn.Linear(width, 2)
        for lin in self.tower:
            nn.init.xavier_normal_(lin.weight)
            nn.init.zeros_(lin.bias)

    def forward(self, x):
        h = self.inp(x)
        for lin in self.tower:
            h = h + 0.3 * torch.tanh(lin(h))
        return self.head(h)


model = Tower()
opt = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
criterion = nn.CrossEntropyLoss()
for epoch in range(15):
    order = torch.randperm(600)
    losses = []
    for chunk in order.split(50):
        opt.zero_grad()
        loss = criterion(model(points[chunk]), cls[chunk])
        loss.backward()
        opt.step()
        losses.append(loss.item())
    print("epoch", epoch, "loss", round(sum(losses) / len(losses), 4))
