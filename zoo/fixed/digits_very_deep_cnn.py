import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)


class DeepConvNet(nn.Module):
    def __init__(self, channels=10, depth=24):
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(depth))
        self.fc = nn.Linear(channels * 4, 10)

    def forward(self, x):
        x = F.relu(self.stem(x))
        for conv in self.convs:
            x = x + 0.1 * F.relu(conv(x))
        x = F.adaptive_avg_pool2d(x, 2).flatten(1)
        return self.fc(x)


digits = load_digits()
x = torch.from_numpy(digits.images).float().unsqueeze(1) / 8 - 1
y = torch.from_numpy(digits.target).long()

net = DeepConvNet()
opt = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
mean = 0.0
for step in range(1, 161):
    idx = torch.randint(0, len(x), (32,))
    loss = F.cross_entropy(net(x[idx]), y[idx])
    opt.zero_grad()
    loss.backward()
    opt.step()
    mean += loss.item() / 20
    if step % 20 == 0:
        print(f"step {step} loss {mean:.4f}")
        mean = 0.0
