import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import load_diabetes
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler

torch.manual_seed(141)
np.random.seed(141)
X, y = load_diabetes(return_X_y=True)
X = StandardScaler().fit_transform(X).astype(np.float32)
y = ((y - y.mean()) / y.std()).astype(np.float32)


def build():
    return nn.Sequential(nn.Linear(10, 40), nn.ReLU(), nn.Linear(40, 1))


def train_fold(tr, va):
    model = build()
    opt = torch.optim.Adam(model.parameters(), lr=5e-3, weight_decay=1e-3)
    xt, yt = torch.from_numpy(X[tr]), torch.from_numpy(y[tr])
    xv, yv = torch.from_numpy(X[va]), torch.from_numpy(y[va])
    for epoch in range(20):
        for i in torch.randperm(len(xt)).split(64):
            pred = model(xt[i])
            loss = torch.mean((pred - yt[i]) ** 2)
            opt.zero_grad()
            loss.backward()
            opt.step()
    with torch.no_grad():
        return loss.item(), float(np.mean((model(xv).numpy().ravel() - yv.numpy()) ** 2))


scores = []
for k, (tr, va) in enumerate(KFold(3, shuffle=True, random_state=0).split(X)):
    last, val = train_fold(tr, va)
    scores.append(val)
    print(f"fold {k}: last train loss {last:.4f}, val mse {val:.4f}")
print(f"cv mse {np.mean(scores):.4f}")
