"""A checkpointed CNN on digits with accumulation over two micro-batches."""
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.checkpoint import checkpoint

ACCUMULATE = 2


def init_weights(m):
    if isinstance(m, nn.Conv2d):
        nn.init.normal_(m.weight, 0.0, 0.12)
        nn.init.zeros_(m.bias)


class Net(nn.Module):
    def __init__(self, ch=16):
        super().__init__()
        self.stem = nn.Conv2d(1, ch, 3, padding=1)
        self.stages = nn.ModuleList(nn.Sequential(nn.Conv2d(ch, ch, 3, padding=1), nn.ReLU()) for _ in range(4))
        self.fc = nn.Linear(64 * ch, 10)
        self.apply(init_weights)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        for stage in self.stages:
            x = checkpoint(stage, x, use_reentrant=False)
        return self.fc(x.flatten(1))


torch.manual_seed(0)
d = load_digits()
x, y = torch.tensor(d.images).float().unsqueeze(1) / 16, torch.tensor(d.target)
model = Net()
opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
for step in range(150):
    opt.zero_grad()
    for _ in range(ACCUMULATE):
        pick = torch.randint(0, len(x), (32,))
        loss = nn.functional.cross_entropy(model(x[pick]), y[pick]) / ACCUMULATE
        loss.backward()
    opt.step()
    if step % 30 == 0:
        print(step, ACCUMULATE * loss.item())
