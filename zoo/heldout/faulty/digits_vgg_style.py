"""Small VGG-like network on the 8x8 digits, no batch norm."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(7)

d = load_digits()
X = torch.tensor(d.images, dtype=torch.float32).unsqueeze(1) / 16.0
X = (X - X.mean()) / X.std()
y = torch.tensor(d.target)
Xtr, Xte, ytr, yte = train_test_split(X, y, test_size=0.2, random_state=0)
train_loader = DataLoader(TensorDataset(Xtr, ytr), batch_size=64, shuffle=True)


class VGGish(nn.Module):
    def __init__(self, cfg=(24, 24, "M", 32, 32, 32, "M", 48, 48)):
        super().__init__()
        layers, c = [], 1
        for v in cfg:
            if v == "M":
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(c, v, 3, padding=1), nn.ReLU(inplace=True)]
                c = v
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(48 * 4, 64), nn.ReLU(), nn.Linear(64, 10))
        self.apply(self._weights)

    @staticmethod
    def _weights(m):
        if isinstance(m, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(m.weight, 0.0, 0.3)
            nn.init.zeros_(m.bias)

    def forward(self, x):
        return self.classifier(self.features(x))


net = VGGish()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

for epoch in range(5):
    net.train()
    running = 0.0
    for xb, yb in train_loader:
        optimizer.zero_grad()
        loss = criterion(net(xb), yb)
        loss.backward()
        optimizer.step()
        running += loss.item()
    net.eval()
    with torch.no_grad():
        out = net(Xte)
        acc = (out.argmax(1) == yte).float().mean().item()
        vl = criterion(out, yte).item()
    print(f"epoch {epoch} train {running / len(train_loader):.4f} val {vl:.4f} acc {acc:.3f}")
