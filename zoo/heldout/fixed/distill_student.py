"""Knowledge distillation: wide teacher -> small student on digits."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(151)
D = load_digits()
X = torch.tensor(D.data, dtype=torch.float32) / 16
y = torch.tensor(D.target)
Xtr, ytr, Xte, yte = X[:1400], y[:1400], X[1400:], y[1400:]

teacher = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
with torch.no_grad():       # teacher: closed-form ridge on random features
    h = F.relu(teacher[0](Xtr))
    A = h.t() @ h + 1.0 * torch.eye(128)
    teacher[2].weight.copy_(torch.linalg.solve(A, h.t() @ (12.0 * F.one_hot(ytr, 10).float())).t())
    teacher[2].bias.zero_()
    print("teacher acc", round((teacher(Xte).argmax(1) == yte).float().mean().item(), 3))
for p in teacher.parameters():
    p.requires_grad_(False)

student = nn.Sequential(nn.Linear(64, 24), nn.Hardswish(), nn.Linear(24, 10))
TEMP = 3.0
opt = torch.optim.Adam(student.parameters(), lr=3e-3)
for epoch in range(12):
    for idx in torch.randperm(1400).split(50):
        t = F.softmax(teacher(Xtr[idx]) / TEMP, dim=1)
        s = F.log_softmax(student(Xtr[idx]) / TEMP, dim=1)
        loss = F.kl_div(s, t, reduction="batchmean") * TEMP ** 2
        opt.zero_grad()
        loss.backward()
        opt.step()
    with torch.no_grad():
        out = student(Xte)
        acc = (out.argmax(1) == yte).float().mean().item()
        ce = F.cross_entropy(out, yte).item()
    print(f"epoch {epoch} kd loss {loss.item():.4f} test ce {ce:.4f} acc {acc:.3f}")
