import numpy as np
import torch
from torch import nn
from sklearn.datasets import load_iris
from sklearn.model_selection import RepeatedStratifiedKFold

torch.manual_seed(1027)
X, y = load_iris(return_X_y=True)
X = (X - X.mean(0)) / X.std(0)
accs = []
for fold, (tr, te) in enumerate(RepeatedStratifiedKFold(n_splits=5, n_repeats=1, random_state=0).split(X, y)):
    model = nn.Sequential(nn.Linear(4, 24), nn.Tanh(), nn.Linear(24, 3))
    opt = torch.optim.Adam(model.parameters(), lr=0.02)
    a, b = torch.tensor(X[tr], dtype=torch.float32), torch.tensor(y[tr])
    for epoch in range(12):
        for idx in torch.randperm(len(a)).split(20):
            loss = nn.functional.cross_entropy(model(a[idx]), b[idx])
            opt.zero_grad()
            loss.backward()
            opt.step()
    with torch.no_grad():
        out = model(torch.tensor(X[te], dtype=torch.float32))
        acc = (out.argmax(1).numpy() == y[te]).mean()
    accs.append(acc)
    print(f"fold {fold} loss {loss.item():.4f} acc {acc:.3f}")
print(f"mean acc {np.mean(accs):.3f}")
