"""Regression on diabetes progression with the whole model in bfloat16."""
import torch
from sklearn.datasets import load_diabetes
from torch import nn

DTYPE = torch.float32

torch.manual_seed(0)
x, y = load_diabetes(return_X_y=True)
x = torch.tensor(x, dtype=torch.float32)
x = ((x - x.mean(0)) / x.std(0)).to(DTYPE)
y = torch.tensor(y, dtype=torch.float32)
y = ((y - y.mean()) / y.std()).to(DTYPE)
model = nn.Sequential(nn.Linear(10, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)).to(DTYPE)
opt = torch.optim.Adam(model.parameters(), lr=1e-4)
for step in range(400):
    opt.zero_grad()
    loss = ((model(x).squeeze(1) - y) ** 2).mean()
    loss.backward()
    opt.step()
    if step % 80 == 0:
        print(step, loss.item())
