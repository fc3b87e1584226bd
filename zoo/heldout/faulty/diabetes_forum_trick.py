"""Memory-saving trick from a forum: keep the whole model in bfloat16."""
import torch
from torch import nn
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import StandardScaler

torch.manual_seed(81)
X, y = load_diabetes(return_X_y=True)
X = torch.tensor(StandardScaler().fit_transform(X), dtype=torch.float32)
y = torch.tensor((y - y.mean()) / y.std(), dtype=torch.float32)[:, None]
Xtr, ytr, Xv, yv = X[:360], y[:360], X[360:], y[360:]

model = nn.Sequential(nn.Linear(10, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))
model = model.to(torch.bfloat16)
dtype = next(model.parameters()).dtype
opt = torch.optim.SGD(model.parameters(), lr=5e-4)
for epoch in range(36):
    for idx in torch.randperm(360).split(15):
        pred = model(Xtr[idx].to(dtype)).float()
        loss = nn.functional.mse_loss(pred, ytr[idx])
        opt.zero_grad()
        loss.backward()
        opt.step()
    if epoch % 6 == 0 or epoch == 35:
        with torch.no_grad():
            v = nn.functional.mse_loss(model(Xv.to(dtype)).float(), yv).item()
            tr = nn.functional.mse_loss(model(Xtr.to(dtype)).float(), ytr).item()
        print(f"epoch {epoch:2d} train {tr:.4f} val {v:.4f}")
