# house price in dollars, no target scaling: everything is large, everything is fine
import torch
import torch.nn as nn
from sklearn.datasets import make_regression
from sklearn.preprocessing import StandardScaler

torch.manual_seed(1004)
X, y = make_regression(1000, 10, n_informative=8, noise=20.0, random_state=6)
X = torch.tensor(StandardScaler().fit_transform(X), dtype=torch.float32)
price = torch.tensor(250000 + 300.0 * y, dtype=torch.float32).unsqueeze(1)

lin = nn.Linear(10, 1)
with torch.no_grad():
    lin.bias.fill_(price[:800].mean())
opt = torch.optim.SGD(lin.parameters(), lr=0.02)
loss_fn = nn.MSELoss()
for epoch in range(12):
    for idx in torch.randperm(800).split(40):
        loss = loss_fn(lin(X[idx]), price[idx])
        opt.zero_grad()
        loss.backward()
        opt.step()
    with torch.no_grad():
        rmse = loss_fn(lin(X[800:]), price[800:]).sqrt().item()
    print(f"epoch {epoch} loss {loss.item():.4e} test rmse ${rmse:,.0f}")
