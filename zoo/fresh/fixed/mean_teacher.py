"""Semi-supervised moons with a mean teacher (EMA copy) and a shared encoder."""
import copy

import torch
from sklearn.datasets import make_moons
from torch import nn


class Student(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.classifier = nn.Linear(64, 2)

    def forward(self, x):
        features = self.encoder(x)
        return self.classifier(features)


@torch.no_grad()
def update_ema(teacher, student, decay=0.98):
    for t, s in zip(teacher.parameters(), student.parameters()):
        t.lerp_(s, 1 - decay)


torch.manual_seed(0)
x, y = make_moons(600, noise=0.15, random_state=1)
x, y = torch.tensor(x).float(), torch.tensor(y)
student = Student()
teacher = copy.deepcopy(student).requires_grad_(False)
opt = torch.optim.Adam(student.parameters(), lr=5e-3)
for step in range(250):
    pick, free = torch.randint(0, 60, (32,)), torch.randint(60, 600, (64,))
    supervised = nn.functional.cross_entropy(student(x[pick]), y[pick])
    with torch.no_grad():
        target = teacher(x[free]).softmax(1)
    consistency = (student(x[free] + 0.05 * torch.randn(64, 2)).softmax(1) - target).pow(2).mean()
    loss = supervised + consistency
    opt.zero_grad()
    loss.backward()
    opt.step()
    update_ema(teacher, student)
    if step % 50 == 0:
        print(step, round(loss.item(), 4))
print("acc", (teacher(x).argmax(1) == y).float().mean().item())
