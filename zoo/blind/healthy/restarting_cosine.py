import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(30)
bunch = load_digits()
X = torch.tensor((bunch.data - 4.88) / 6.02, dtype=torch.float32)
Y = torch.tensor(bunch.target)


class Res(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.f = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, 2 * d), nn.ReLU(), nn.Linear(2 * d, d))

    def forward(self, x):
        return x + self.f(x)


net = nn.Sequential(nn.Linear(64, 48), Res(48), Res(48), nn.Linear(48, 10))
opt = torch.optim.SGD(net.parameters(), lr=0.08, momentum=0.9, nesterov=True)
sched = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(opt, T_0=40, T_mult=2, eta_min=1e-4)
acc = []
for step in range(280):
    j = torch.randint(0, len(X), (48,))
    loss = nn.functional.cross_entropy(net(X[j]), Y[j])
    opt.zero_grad()
    loss.backward()
    opt.step()
    sched.step()
    acc.append(loss.item())
    if step % 20 == 19:
        print(f"step {step + 1:3d} lr {sched.get_last_lr()[0]:.4f} loss {sum(acc[-20:]) / 20:.4f}")
