import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(1005)
d = load_digits()
X = torch.tensor(d.data, dtype=torch.float32) / 16 - 0.3
y = torch.tensor(d.target)
net = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Dropout(0.2), nn.Linear(96, 48), nn.ReLU(), nn.Linear(48, 10))
opt = torch.optim.SGD(net.parameters(), lr=0.15, momentum=0.9, weight_decay=1e-4)
sched = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(opt, T_0=60, T_mult=2)
crit = nn.CrossEntropyLoss()
step = 0
for epoch in range(13):
    net.train()
    for idx in torch.randperm(1400).split(56):
        loss = crit(net(X[idx]), y[idx])
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step()
        step += 1
    net.eval()
    with torch.no_grad():
        v = crit(net(X[1400:]), y[1400:]).item()
    print(f"epoch {epoch} step {step} lr {opt.param_groups[0]['lr']:.4f} train {loss.item():.4f} val {v:.4f}")
