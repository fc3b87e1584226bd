"""Reuse convolutional features learnt on even digits for odd digits."""
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 24, 3, padding=1), nn.BatchNorm2d(24)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        return F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2).flatten(1)


d = load_digits()
x = torch.tensor(d.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
y = torch.tensor(d.target)
even = y % 2 == 0

backbone, head = Backbone(), nn.Linear(96, 5)
model = nn.Sequential(backbone, head)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for step in range(80):
    idx = torch.randint(0, int(even.sum()), (64,))
    loss = F.cross_entropy(model(x[even][idx]), y[even][idx] // 2)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"pretraining done, loss {loss.item():.4f}")

backbone.requires_grad_(False)
backbone.eval()
model = nn.Sequential(backbone, nn.Linear(96, 5))
optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=3e-3)
for step in range(200):
    idx = torch.randint(0, int((~even).sum()), (64,))
    loss = F.cross_entropy(model(x[~even][idx]), y[~even][idx] // 2)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 20 == 0 or step == 199:
        print(f"finetune step {step} loss {loss.item():.4f}")
