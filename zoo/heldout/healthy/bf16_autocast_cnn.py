import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(1028)
d = load_digits()
X = torch.tensor(d.images, dtype=torch.float32)[:, None] / 16
y = torch.tensor(d.target)
ACC = 2
net = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.GroupNorm(3, 12), nn.ReLU(), nn.MaxPool2d(2),
                    nn.Conv2d(12, 24, 3, padding=1), nn.GroupNorm(3, 24), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
                    nn.Flatten(), nn.Linear(96, 10))
opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
for epoch in range(4):
    opt.zero_grad()
    for k, idx in enumerate(torch.randperm(1408).split(32)):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.cross_entropy(net(X[idx]), y[idx]) / ACC
        loss.backward()
        if (k + 1) % ACC == 0:
            opt.step()
            opt.zero_grad()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        v = F.cross_entropy(net(X[1408:]).float(), y[1408:]).item()
    print(f"epoch {epoch} train {loss.item() * ACC:.4f} val {v:.4f}")
