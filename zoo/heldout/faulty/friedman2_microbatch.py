import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import make_friedman2
from sklearn.preprocessing import StandardScaler

torch.manual_seed(111)
X, y = make_friedman2(1500, noise=10.0, random_state=1)
X = torch.tensor(StandardScaler().fit_transform(X), dtype=torch.float32)
y = torch.tensor((y - y.mean()) / y.std(), dtype=torch.float32).view(-1, 1)
dl = DataLoader(TensorDataset(X, y), batch_size=15, shuffle=True)
ACCUM = 4

net = nn.Sequential(nn.Linear(4, 64), nn.Softplus(), nn.Linear(64, 64), nn.Softplus(), nn.Linear(64, 1))
opt = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.5)
crit = nn.MSELoss()

for epoch in range(6):
    opt.zero_grad()
    tot = 0.0
    for i, (xb, yb) in enumerate(dl):
        loss = crit(net(xb), yb) / ACCUM
        loss.backward()
        if (i + 1) % ACCUM == 0:
            opt.step()
        tot += loss.item() * ACCUM
    print(f"epoch {epoch + 1}: mse {tot / len(dl):.4f}")
