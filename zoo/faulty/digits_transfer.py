"""Pre-train on digits 0-4, then fine-tune the same features for digits 5-9."""
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.fc = nn.Linear(16 * 4, classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc(x.flatten(1))


def fit(net, optimizer, x, y, steps, tag):
    for step in range(1, steps + 1):
        idx = torch.randint(0, len(x), (48,))
        loss = F.cross_entropy(net(x[idx]), y[idx])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % (steps // 5) == 0:
            print(f"{tag} step {step} loss {loss.item():.4f}")


d = load_digits()
images = torch.tensor(d.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
labels = torch.tensor(d.target)
old = labels < 5
net = Net(5)
fit(net, torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9), images[old], labels[old], 60, "pretrain")

optimizer = torch.optim.SGD(net.parameters(), lr=0.005, momentum=0.9)
net.fc = nn.Linear(16 * 4, 5)
for p in net.conv1.parameters():
    p.requires_grad_(False)
fit(net, optimizer, images[~old], labels[~old] - 5, 200, "finetune")
