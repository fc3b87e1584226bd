"""Fit a damped oscillation with LBFGS."""
import torch
from torch import nn

torch.manual_seed(0)
x = torch.linspace(-3, 3, 200).unsqueeze(1)
y = torch.exp(-0.3 * x) * torch.sin(2 * x)
model = nn.Sequential(nn.Linear(1, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 1))
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.2, max_iter=4, history_size=10)


def closure():
    prediction = model(x)
    loss = nn.functional.mse_loss(prediction, y)
    loss.backward()
    return loss


for epoch in range(80):
    loss = optimizer.step(closure)
    if epoch % 10 == 0:
        print(epoch, loss.item())
