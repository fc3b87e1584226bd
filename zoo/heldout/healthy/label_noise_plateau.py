import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(1009)
n = 3000
X = torch.randn(n, 6)
clean = (X[:, 0] * X[:, 1] + 0.7 * X[:, 2] > 0).long()
flip = torch.rand(n) < 0.1
y = torch.where(flip, 1 - clean, clean)
loader = DataLoader(TensorDataset(X[:2400], y[:2400]), batch_size=100, shuffle=True)
net = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 2))
opt = torch.optim.RMSprop(net.parameters(), lr=6e-3)
sched = torch.optim.lr_scheduler.MultiStepLR(opt, [7, 13], gamma=0.2)
ce = nn.CrossEntropyLoss()
for epoch in range(17):
    net.train()
    s = 0.0
    for a, b in loader:
        opt.zero_grad()
        loss = ce(net(a), b)
        loss.backward()
        opt.step()
        s += loss.item()
    sched.step()
    net.eval()
    with torch.no_grad():
        v = ce(net(X[2400:]), y[2400:]).item()
    print(f"epoch {epoch} train {s / len(loader):.4f} val {v:.4f}")
