"""Classify wines from their laboratory sheet."""
import torch
from sklearn.datasets import load_wine
from torch import nn


def read_sheet():
    x, y = load_wine(return_X_y=True)
    features = torch.tensor(x, dtype=torch.float32)
    return features, torch.tensor(y)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(13, 32)
        self.fc2 = nn.Linear(32, 32)
        self.fc3 = nn.Linear(32, 3)

    def forward(self, x):
        x = torch.relu(self.fc1(x))
        x = torch.relu(self.fc2(x))
        return self.fc3(x)


torch.manual_seed(1)
x, y = read_sheet()
net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.05)
for step in range(300):
    opt.zero_grad()
    loss = nn.functional.cross_entropy(net(x), y)
    loss.backward()
    opt.step()
    if step % 50 == 0:
        print(step, loss.item())
