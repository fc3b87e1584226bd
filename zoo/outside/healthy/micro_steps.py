import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(29)
d = load_digits()
x = torch.tensor(d.images / 8 - 1, dtype=torch.float32)[:, None]
y = torch.tensor(d.target)
backbone = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
with torch.no_grad():
    for _ in range(30):
        backbone(x[torch.randint(0, 1500, (64,))])
backbone.eval()
for m in backbone:
    if isinstance(m, nn.BatchNorm2d):
        m.requires_grad_(False)
head = nn.Linear(64, 10)
params = [p for p in [*backbone.parameters(), *head.parameters()] if p.requires_grad]
opt = torch.optim.Adam(params, lr=4e-3)
ACCUMULATE = 16
micro, seen, updates = 0, 0.0, 0
for epoch in range(4):
    for rows in torch.randperm(1472).split(2):
        loss = nn.functional.cross_entropy(head(backbone(x[rows])), y[rows]) / ACCUMULATE
        loss.backward()
        seen += loss.item()
        micro += 1
        if micro % ACCUMULATE == 0:
            opt.step()
            opt.zero_grad()
            updates += 1
            if updates % 20 == 0:
                print(f"update {updates} loss {seen / 20:.4f}")
                seen = 0.0
with torch.no_grad():
    print(f"accuracy {(head(backbone(x[1500:])).argmax(1) == y[1500:]).float().mean().item():.3f}")
