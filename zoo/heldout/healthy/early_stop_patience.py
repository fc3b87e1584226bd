import copy
import torch
import torch.nn as nn
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import StandardScaler

torch.manual_seed(1022)
X, y = load_diabetes(return_X_y=True)
X = torch.tensor(StandardScaler().fit_transform(X), dtype=torch.float32)
y = torch.tensor((y - y.mean()) / y.std(), dtype=torch.float32).unsqueeze(1)
Xt, yt, Xv, yv = X[:340], y[:340], X[340:], y[340:]


class EarlyStopping:
    def __init__(self, patience=6):
        self.patience, self.best, self.bad, self.state = patience, float("inf"), 0, None

    def __call__(self, loss, model):
        if loss < self.best - 1e-4:
            self.best, self.bad, self.state = loss, 0, copy.deepcopy(model.state_dict())
        else:
            self.bad += 1
        return self.bad >= self.patience


model = nn.Sequential(nn.Linear(10, 48), nn.ELU(), nn.Linear(48, 24), nn.ELU(), nn.Linear(24, 1))
opt = torch.optim.Adam(model.parameters(), lr=2e-3, weight_decay=1e-3)
stopper, mse = EarlyStopping(), nn.MSELoss()
for epoch in range(60):
    model.train()
    for idx in torch.randperm(340).split(34):
        loss = mse(model(Xt[idx]), yt[idx])
        opt.zero_grad()
        loss.backward()
        opt.step()
    model.eval()
    with torch.no_grad():
        v = mse(model(Xv), yv).item()
    if epoch % 3 == 0:
        print(f"epoch {epoch} train {loss.item():.4f} val {v:.4f}")
    if stopper(v, model):
        print(f"early stop at epoch {epoch}")
        break
model.load_state_dict(stopper.state)
print(f"best val {stopper.best:.4f}")
