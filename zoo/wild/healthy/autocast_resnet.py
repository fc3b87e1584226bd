"""ResNet for digits, bf16 autocast."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


class BasicBlock(nn.Module):
    def __init__(self, cin, cout, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.shortcut = nn.Identity() if stride == 1 and cin == cout else nn.Sequential(
            nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class TinyResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 12, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(12)
        self.layer1 = BasicBlock(12, 12)
        self.layer2 = BasicBlock(12, 24, 2)
        self.fc = nn.Linear(24, 10)

    def forward(self, x):
        x = F.relu(self.bn(self.stem(x)))
        return self.fc(self.layer2(self.layer1(x)).mean((2, 3)))


class AverageMeter:
    def __init__(self):
        self.sum = self.count = 0

    def update(self, v, n):
        self.sum += v * n
        self.count += n

    @property
    def avg(self):
        return self.sum / max(self.count, 1)


def main():
    torch.manual_seed(20)
    d = load_digits()
    x = torch.tensor(d.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
    y = torch.tensor(d.target)
    model = TinyResNet()
    opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    epochs, n = 6, 1437
    sched = torch.optim.lr_scheduler.OneCycleLR(opt, 0.15, epochs=epochs, steps_per_epoch=(n + 49) // 50)
    for epoch in range(epochs):
        model.train()
        meter = AverageMeter()
        for rows in torch.randperm(n).split(50):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = F.cross_entropy(model(x[rows]), y[rows])
            opt.zero_grad()
            loss.backward()
            opt.step()
            sched.step()
            meter.update(loss.item(), len(rows))
        model.eval()
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            acc = (model(x[n:]).argmax(1) == y[n:]).float().mean().item()
        print(f"Epoch: [{epoch}] Loss {meter.avg:.4f} Acc@1 {100 * acc:.2f}")


main()
