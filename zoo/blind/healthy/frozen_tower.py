import torch
from torch import nn
from sklearn.datasets import load_digits

torch.manual_seed(12)
d = load_digits()
x = torch.tensor(d.images / 8 - 1, dtype=torch.float32).unsqueeze(1)
y = torch.tensor(d.target)

backbone = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Conv2d(32, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
for p in backbone.parameters():
    p.requires_grad_(False)
backbone.train()
with torch.no_grad():
    for _ in range(30):  # settle the running statistics, then freeze
        backbone(x[torch.randint(0, len(x), (64,))])
backbone.eval()
head = nn.Linear(192, 10)
model = nn.Sequential(backbone, head)
opt = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=5e-3)
for step in range(150):
    i = torch.randint(0, len(x), (32,))
    loss = nn.functional.cross_entropy(model(x[i]), y[i])
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 25 == 24:
        print(step + 1, round(loss.item(), 4))
