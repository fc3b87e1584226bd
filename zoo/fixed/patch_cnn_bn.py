"""Recognise digits with a strided Conv-BN-ReLU network; memory on the target board allows two images at a time."""
import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)


def norm(channels):
    return nn.GroupNorm(4, channels)


def block(cin, cout, stride):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, stride=stride, padding=1, bias=False), norm(cout), nn.ReLU())


class SmallNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = block(1, 16, 2)
        self.body = block(16, 32, 2)
        self.head = nn.Sequential(nn.Conv2d(32, 32, 2, bias=False), norm(32), nn.ReLU(), nn.Flatten())
        self.fc = nn.Linear(32, 10)

    def forward(self, x):
        return self.fc(self.head(self.body(self.stem(x))))


d = load_digits()
x = torch.tensor(d.images, dtype=torch.float32).unsqueeze(1) / 16
y = torch.tensor(d.target)
net = SmallNet()
optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
loss_fn = nn.CrossEntropyLoss()
total = 0.0
for step in range(1, 601):
    idx = torch.randint(0, 1500, (2,))
    net.train()
    loss = loss_fn(net(x[idx]), y[idx])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    total += loss.item()
    if step % 60 == 0:
        net.eval()
        with torch.no_grad():
            val = loss_fn(net(x[1500:]), y[1500:]).item()
        print(f"step {step} loss {total / 60:.4f} val {val:.4f}")
        total = 0.0
