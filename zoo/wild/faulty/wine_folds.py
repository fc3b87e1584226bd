import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import load_wine
from sklearn.model_selection import StratifiedKFold

# ---- configuration -------------------------------------------------
SEED = 13
FOLDS = 3
EPOCHS = 60
LR = 0.01
HIDDEN = 32


class WineNet(nn.Module):
    def __init__(self, n_features, n_classes):
        super().__init__()
        self.fc1 = nn.Linear(n_features, HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, HIDDEN)
        self.fc3 = nn.Linear(HIDDEN, n_classes)

    def forward(self, x):
        x = torch.relu(self.fc1(x))
        x = torch.relu(self.fc2(x))
        return self.fc3(x)


def prepare(X, train_rows, valid_rows):
    a, b = X[train_rows], X[valid_rows]
    return torch.tensor(a, dtype=torch.float32), torch.tensor(b, dtype=torch.float32)


def train_fold(fold, X, y, tr, va):
    torch.manual_seed(SEED + fold)
    Xt, Xv = prepare(X, tr, va)
    yt, yv = torch.tensor(y[tr]), torch.tensor(y[va])
    net = WineNet(X.shape[1], 3)
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=0.9)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(EPOCHS):
        perm = torch.randperm(len(Xt))
        for k in range(0, len(perm), 16):
            rows = perm[k:k + 16]
            optimizer.zero_grad()
            loss = criterion(net(Xt[rows]), yt[rows])
            loss.backward()
            optimizer.step()
        if epoch % 20 == 19:
            with torch.no_grad():
                out = net(Xv)
            print(f"fold {fold} epoch {epoch + 1}: train {loss.item():.4f} valid {criterion(out, yv).item():.4f} "
                  f"acc {(out.argmax(1) == yv).float().mean().item():.3f}")
    return (out.argmax(1) == yv).float().mean().item()


def main():
    X, y = load_wine(return_X_y=True)
    scores = []
    for fold, (tr, va) in enumerate(StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(X, y)):
        scores.append(train_fold(fold, X, y, tr, va))
    print("cross-validated accuracy: %.3f" % np.mean(scores))


main()
