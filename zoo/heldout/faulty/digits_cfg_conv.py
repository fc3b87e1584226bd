import torch
from torch import nn
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(271)
cfg = dict(lr=1e-2, weight_decay=8.0, epochs=8, batch_size=64, dropout=0.1)
d = load_digits()
X = torch.tensor(d.images, dtype=torch.float32)[:, None] / 16 - 0.3
y = torch.tensor(d.target)
train = DataLoader(TensorDataset(X[:1400], y[:1400]), batch_size=cfg["batch_size"], shuffle=True)

model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.GELU(), nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1), nn.GELU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
    nn.Dropout(cfg["dropout"]), nn.Linear(128, 10),
)
opt = torch.optim.AdamW(model.parameters(), lr=cfg["lr"], weight_decay=cfg["weight_decay"])
crit = nn.CrossEntropyLoss()
best = float("inf")
for epoch in range(cfg["epochs"]):
    model.train()
    for xb, yb in train:
        opt.zero_grad()
        loss = crit(model(xb), yb)
        loss.backward()
        opt.step()
    model.eval()
    with torch.no_grad():
        val = crit(model(X[1400:]), y[1400:]).item()
    best = min(best, val)
    print(f"epoch {epoch + 1}/{cfg['epochs']} train {loss.item():.4f} val {val:.4f} best {best:.4f}")
