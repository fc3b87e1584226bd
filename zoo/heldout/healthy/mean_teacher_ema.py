import copy
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import make_moons

torch.manual_seed(1023)
Xn, yn = make_moons(1000, noise=0.1, random_state=5)
X, y = torch.tensor(Xn).float(), torch.tensor(yn)
labelled = torch.cat([torch.where(y == 0)[0][:12], torch.where(y == 1)[0][:12]])

student = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
teacher = copy.deepcopy(student)
for p in teacher.parameters():
    p.requires_grad_(False)
opt = torch.optim.Adam(student.parameters(), lr=4e-3)
for step in range(301):
    u = X[torch.randint(0, 1000, (96,))]
    sup = F.cross_entropy(student(X[labelled] + 0.05 * torch.randn(24, 2)), y[labelled])
    with torch.no_grad():
        t = F.softmax(teacher(u + 0.08 * torch.randn_like(u)), 1)
    cons = ((F.softmax(student(u + 0.08 * torch.randn_like(u)), 1) - t) ** 2).sum(1).mean()
    ramp = min(1.0, step / 150)
    loss = sup + 3.0 * ramp * cons
    opt.zero_grad()
    loss.backward()
    opt.step()
    with torch.no_grad():
        for a, b in zip(teacher.parameters(), student.parameters()):
            a.lerp_(b, 0.03)
    if step % 50 == 0:
        acc = (teacher(X).argmax(1) == y).float().mean().item()
        print(f"step {step} loss {loss.item():.4f} sup {sup.item():.4f} cons {cons.item():.4f} teacher acc {acc:.3f}")
