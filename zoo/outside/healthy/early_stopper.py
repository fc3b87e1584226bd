import copy

import torch
from sklearn.datasets import load_diabetes
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class EarlyStopping:
    def __init__(self, patience):
        self.patience, self.best, self.bad, self.state = patience, float("inf"), 0, None

    def __call__(self, value, model):
        if value < self.best:
            self.best, self.bad, self.state = value, 0, copy.deepcopy(model.state_dict())
        else:
            self.bad += 1
        return self.bad > self.patience


torch.manual_seed(26)
X, y = load_diabetes(return_X_y=True)
X, y = torch.tensor(X / X.std(0)).float(), torch.tensor((y - y.mean()) / y.std()).float()[:, None]
perm = torch.randperm(len(y))
X, y = X[perm], y[perm]
net = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 1))
ema = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.98))
opt = torch.optim.Adam(net.parameters(), lr=2e-3)
stop = EarlyStopping(patience=8)
for epoch in range(80):
    net.train()
    for rows in torch.randperm(340).split(20):
        loss = nn.functional.mse_loss(net(X[rows]), y[rows])
        opt.zero_grad()
        loss.backward()
        opt.step()
        ema.update_parameters(net)
    ema.eval()
    with torch.no_grad():
        val = nn.functional.mse_loss(ema(X[340:]), y[340:]).item()
    if epoch % 5 == 0:
        print(f"epoch {epoch} train {loss.item():.4f} validation {val:.4f}")
    if stop(val, ema):
        break
print(f"stopped in epoch {epoch}, best validation {stop.best:.4f} (a linear model has about 0.5)")
