# transfer learning recipe: load backbone, swap the head, train everything
import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(231)


class SmallNet(nn.Module):
    def __init__(self, num_classes=5):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, 16), nn.LayerNorm(16), nn.ReLU())
        self.fc = nn.Linear(16, num_classes)

    def forward(self, x):
        return self.fc(self.backbone(x))


model = SmallNet()
num_features = model.fc.in_features
model.fc = nn.Linear(num_features, 10)
optimizer = torch.optim.SGD([
    {"params": model.backbone.parameters(), "lr": 0.001},
    {"params": model.fc.parameters(), "lr": 0.05},
], momentum=0.9)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=6, gamma=0.5)

d = load_digits()
X = torch.tensor(d.data, dtype=torch.float32) / 16
y = torch.tensor(d.target)
criterion = nn.CrossEntropyLoss()
for epoch in range(10):
    model.train()
    for idx in torch.randperm(1437).split(64):
        loss = criterion(model(X[idx]), y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    scheduler.step()
    model.eval()
    with torch.no_grad():
        logits = model(X[1437:])
        print(f"Epoch {epoch}: loss {criterion(logits, y[1437:]).item():.4f} acc {(logits.argmax(1) == y[1437:]).float().mean():.3f}")
