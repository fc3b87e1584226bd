import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(1)


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.conv3 = nn.Conv2d(16, 32, 3, padding=1)
        self.fc1 = nn.Linear(32 * 4, 64)
        self.fc2 = nn.Linear(64, 10)
        nn.init.kaiming_normal_(self.conv1.weight)
        nn.init.kaiming_normal_(self.conv2.weight)
        nn.init.normal_(self.conv3.weight, std=1.5)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.max_pool2d(F.relu(self.conv3(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc2(x)


digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16.0
images = (images - images.mean()) / images.std()
labels = torch.tensor(digits.target)

net = ConvNet()
opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)

running = 0.0
for it in range(250):
    idx = torch.randint(0, len(images), (64,))
    loss = F.cross_entropy(net(images[idx]), labels[idx])
    opt.zero_grad()
    loss.backward()
    opt.step()
    running += loss.item()
    if (it + 1) % 25 == 0:
        print(f"iter {it + 1} mean loss {running / 25:.4f}")
        running = 0.0
