import numpy as np
import torch
from torch import nn, optim
from sklearn.datasets import load_wine
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

torch.manual_seed(241)
X, y = load_wine(return_X_y=True)
X = torch.tensor(StandardScaler().fit_transform(X), dtype=torch.float32)
y = torch.tensor(y)


def reset_weights():
    return nn.Sequential(nn.Linear(13, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 3))


net = reset_weights()
optimizer = optim.Adam(net.parameters(), lr=5e-3)
criterion = nn.CrossEntropyLoss()
results = []
for fold, (tr, te) in enumerate(StratifiedKFold(4, shuffle=True, random_state=1).split(X, y)):
    if fold > 0:
        net = reset_weights()
    tr, te = torch.from_numpy(tr), torch.from_numpy(te)
    for epoch in range(15):
        net.train()
        for b in tr[torch.randperm(len(tr))].split(24):
            optimizer.zero_grad()
            loss = criterion(net(X[b]), y[b])
            loss.backward()
            optimizer.step()
        if epoch % 5 == 4:
            print(f"fold {fold} epoch {epoch + 1} train loss {loss.item():.4f}")
    net.eval()
    with torch.no_grad():
        results.append(criterion(net(X[te]), y[te]).item())
print("fold losses", " ".join(f"{r:.4f}" for r in results), f"mean {np.mean(results):.4f}")
