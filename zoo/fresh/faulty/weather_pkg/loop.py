import torch
from torch import nn

from weather_pkg.data import weather
from weather_pkg.model import ResidualMLP


def train(steps, lr):
    torch.manual_seed(0)
    x, y = weather(2000)
    features = x
    model = ResidualMLP(4, 32, 2)
    opt = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    for step in range(steps):
        pick = torch.randint(0, len(x), (64,))
        loss = nn.functional.mse_loss(model(features[pick]), y[pick])
        opt.zero_grad()
        loss.backward()
        opt.step()
        if step % 40 == 0:
            print(step, loss.item())
