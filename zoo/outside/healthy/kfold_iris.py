import numpy as np
import torch
from sklearn.datasets import load_iris
from sklearn.model_selection import StratifiedKFold
from torch import nn

iris = load_iris()
X = (iris.data - iris.data.mean(0)) / iris.data.std(0)
scores = []
for fold, (tr, te) in enumerate(StratifiedKFold(5, shuffle=True, random_state=0).split(X, iris.target)):
    torch.manual_seed(100 + fold)
    model = nn.Sequential(nn.Linear(4, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 3))
    opt = torch.optim.AdamW(model.parameters(), lr=5e-3)
    xtr, ytr = torch.tensor(X[tr]).float(), torch.tensor(iris.target[tr])
    xte, yte = torch.tensor(X[te]).float(), torch.tensor(iris.target[te])
    for epoch in range(25):
        for rows in torch.randperm(len(tr)).split(20):
            loss = nn.functional.cross_entropy(model(xtr[rows]), ytr[rows])
            opt.zero_grad()
            loss.backward()
            opt.step()
    with torch.no_grad():
        scores.append((model(xte).argmax(1) == yte).float().mean().item())
    print(f"fold {fold} last loss {loss.item():.4f} accuracy {scores[-1]:.3f}")
print(f"mean accuracy {np.mean(scores):.3f}")
