import torch
import torch.nn as nn
from sklearn.datasets import make_moons

torch.manual_seed(16)
X, y = make_moons(3000, noise=0.12, random_state=16)
angle = torch.tensor(X).float() * 2
target = torch.tensor(y)
model = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
opt = torch.optim.SGD(model.parameters(), lr=0.12, momentum=0.9)
cycle = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(opt, T_0=100, T_mult=2, eta_min=1e-4)
smooth = 0.7
for step in range(700):
    rows = torch.randint(0, 2400, (32,))
    loss = nn.functional.cross_entropy(model(angle[rows]), target[rows])
    opt.zero_grad()
    loss.backward()
    opt.step()
    cycle.step()
    smooth = 0.95 * smooth + 0.05 * loss.item()
    if step % 50 == 49:
        print(f"step {step + 1} lr {opt.param_groups[0]['lr']:.4f} loss {smooth:.4f}")
with torch.no_grad():
    print(f"accuracy {(model(angle[2400:]).argmax(1) == target[2400:]).float().mean().item():.3f}")
