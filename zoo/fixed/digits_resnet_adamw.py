import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)


class ResBlock(nn.Module):
    def __init__(self, ch):
        super().__init__()
        self.conv1 = nn.Conv2d(ch, ch, 3, padding=1)
        self.conv2 = nn.Conv2d(ch, ch, 3, padding=1)
        self.n1, self.n2 = nn.GroupNorm(4, ch), nn.GroupNorm(4, ch)

    def forward(self, x):
        h = F.relu(self.n1(self.conv1(x)))
        return F.relu(x + self.n2(self.conv2(h)))


class ResNet(nn.Module):
    def __init__(self, ch=12):
        super().__init__()
        self.stem = nn.Conv2d(1, ch, 3, padding=1)
        self.block1, self.block2 = ResBlock(ch), ResBlock(ch)
        self.fc = nn.Linear(ch * 4, 10)

    def forward(self, x):
        x = self.block1(self.stem(x))
        x = self.block2(F.max_pool2d(x, 2))
        return self.fc(F.max_pool2d(x, 2).flatten(1))


d = load_digits()
x = torch.tensor(d.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
y = torch.tensor(d.target)
model = ResNet()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
for step in range(160):
    idx = torch.randint(0, len(x), (48,))
    loss = F.cross_entropy(model(x[idx]), y[idx])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 20 == 0 or step == 159:
        print(f"step {step} loss {loss.item():.4f}")
