import copy
import torch
from torch import nn
import torch.nn.functional as F

torch.manual_seed(95)


def encoder():
    return nn.Sequential(nn.Linear(20, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 24))


student, predictor = encoder(), nn.Sequential(nn.Linear(24, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 24))
teacher = copy.deepcopy(student)
for p in teacher.parameters():
    p.requires_grad = False
opt = torch.optim.SGD([*student.parameters(), *predictor.parameters()], lr=0.1, momentum=0.9, weight_decay=1e-4)
centres = torch.randn(10, 20)


def view(x):
    return x * (1 + 0.2 * torch.randn_like(x)) + 0.3 * torch.randn_like(x)


for step in range(200):
    x = centres[torch.randint(0, 10, (64,))] + 0.3 * torch.randn(64, 20)
    a, b = view(x), view(x)
    loss = 0.0
    for u, v in ((a, b), (b, a)):
        with torch.no_grad():
            goal = F.normalize(teacher(v), dim=-1)
        loss = loss + 2 - 2 * (F.normalize(predictor(student(u)), dim=-1) * goal).sum(-1).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    with torch.no_grad():
        for pt, ps in zip(teacher.parameters(), student.parameters()):
            pt.lerp_(ps, 0.02)
    if step % 25 == 24:
        print(step + 1, round(loss.item(), 4))
