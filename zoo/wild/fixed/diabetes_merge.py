"""Diabetes progression regression with a manual k-step learning rate plan."""
import numpy as np
import torch
from sklearn.datasets import load_diabetes


def load_frame():
    d = load_diabetes()
    X = d.data.astype(np.float64) * 20
    y = (d.target - d.target.mean()) / d.target.std()
    # lab values come from a second table, joined on patient id
    labs = {pid: X[pid, 4:] for pid in range(len(X)) if pid != 207}
    merged = np.full_like(X, np.nan)
    merged[:, :4] = X[:, :4]
    for pid, row in labs.items():
        merged[pid, 4:] = row
    return merged, y


def standardise(X):
    mu, sd = np.nanmean(X, 0), np.nanstd(X, 0)
    return np.nan_to_num((X - mu) / sd)


X, y = load_frame()
X = torch.tensor(standardise(X), dtype=torch.float32)
y = torch.tensor(y, dtype=torch.float32).unsqueeze(1)
torch.manual_seed(0)
perm = torch.randperm(len(X))
test, train = perm[perm < 90], perm[perm >= 90]

model = torch.nn.Sequential(
    torch.nn.Linear(X.shape[1], 32),
    torch.nn.Tanh(),
    torch.nn.Dropout(0.2),
    torch.nn.Linear(32, 1),
)
plan = {0: 0.05, 25: 0.02, 40: 0.005}
opt = torch.optim.SGD(model.parameters(), lr=plan[0], momentum=0.9, weight_decay=1e-4)
for epoch in range(50):
    if epoch in plan:
        for group in opt.param_groups:
            group["lr"] = plan[epoch]
    model.train()
    train = train[torch.randperm(len(train))]
    sq = 0.0
    for i in range(0, len(train), 32):
        rows = train[i:i + 32]
        opt.zero_grad()
        loss = torch.nn.functional.mse_loss(model(X[rows]), y[rows])
        loss.backward()
        opt.step()
        sq += loss.item() * len(rows)
    if epoch % 10 == 9:
        model.eval()
        with torch.no_grad():
            err = torch.nn.functional.mse_loss(model(X[test]), y[test]).item()
        print(f"epoch {epoch + 1}: train {sq / len(train):.4f} test {err:.4f}")
