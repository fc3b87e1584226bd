"""Random-feature backbone is frozen, only norm and head are trained."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(1010)
d = load_digits()
X = torch.tensor(d.images, dtype=torch.float32)[:, None] / 16
y = torch.tensor(d.target)


class Probe(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                                      nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
        self.norm = nn.LayerNorm(256)
        self.head = nn.Linear(256, 10)
        for p in self.backbone.parameters():
            p.requires_grad = False

    def forward(self, x):
        return self.head(self.norm(self.backbone(x)))


model = Probe()
opt = torch.optim.AdamW(filter(lambda p: p.requires_grad, model.parameters()), lr=1e-2)
crit = nn.CrossEntropyLoss()
for epoch in range(6):
    for idx in torch.randperm(1400).split(50):
        loss = crit(model(X[idx]), y[idx])
        opt.zero_grad()
        loss.backward()
        opt.step()
    with torch.no_grad():
        out = model(X[1400:])
    print(f"epoch {epoch} train {loss.item():.4f} val {crit(out, y[1400:]).item():.4f} acc {(out.argmax(1) == y[1400:]).float().mean():.3f}")
