import torch
import torch.nn as nn
from sklearn.datasets import make_classification

torch.manual_seed(1012)
X, y = make_classification(800, 200, n_informative=25, n_classes=3, n_clusters_per_class=1, class_sep=1.6, random_state=3)
X = torch.tensor(X, dtype=torch.float32)
X = (X - X.mean(0)) / X.std(0)
y = torch.tensor(y)
model = nn.Sequential(nn.Dropout(0.5), nn.Linear(200, 128), nn.ReLU(), nn.Dropout(0.8), nn.Linear(128, 3))
opt = torch.optim.Adam(model.parameters(), lr=3e-3, amsgrad=True)
crit = nn.CrossEntropyLoss(label_smoothing=0.1)
for epoch in range(12):
    model.train()
    tr = 0.0
    for idx in torch.randperm(640).split(32):
        loss = crit(model(X[idx]), y[idx])
        opt.zero_grad()
        loss.backward()
        opt.step()
        tr += loss.item() / 20
    model.eval()
    with torch.no_grad():
        out = model(X[640:])
        print(f"epoch {epoch} train {tr:.4f} val {crit(out, y[640:]).item():.4f} acc {(out.argmax(1) == y[640:]).float().mean():.3f}")
