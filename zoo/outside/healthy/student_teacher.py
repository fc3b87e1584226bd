import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

torch.manual_seed(15)
d = load_digits()
x, y = torch.tensor(d.data / 8 - 1).float(), torch.tensor(d.target)
teacher = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Dropout(0.3), nn.Linear(256, 10))
student = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
T = 4.0


class DistillLoss(nn.Module):
    def __init__(self, temperature, weight):
        super().__init__()
        self.t, self.w = temperature, weight

    def forward(self, s, t, target):
        soft = F.kl_div(F.log_softmax(s / self.t, 1), F.log_softmax(t / self.t, 1), log_target=True, reduction="batchmean")
        return self.w * self.t**2 * soft + (1 - self.w) * F.cross_entropy(s, target)


opt = torch.optim.Adam(teacher.parameters(), lr=2e-3)
for epoch in range(8):
    for rows in torch.randperm(1400).split(50):
        loss = F.cross_entropy(teacher(x[rows]), y[rows])
        opt.zero_grad()
        loss.backward()
        opt.step()
print(f"teacher loss {loss.item():.4f}")

teacher.eval().requires_grad_(False)
criterion = DistillLoss(T, 0.9)
opt = torch.optim.Adam(student.parameters(), lr=4e-3)
for epoch in range(14):
    for rows in torch.randperm(1400).split(50):
        loss = criterion(student(x[rows]), teacher(x[rows]), y[rows])
        opt.zero_grad()
        loss.backward()
        opt.step()
    if epoch % 4 == 1:
        print(f"student epoch {epoch} loss {loss.item():.4f}")
with torch.no_grad():
    for name, net in (("teacher", teacher), ("student", student)):
        print(f"{name} accuracy {(net(x[1400:]).argmax(1) == y[1400:]).float().mean().item():.3f}")
