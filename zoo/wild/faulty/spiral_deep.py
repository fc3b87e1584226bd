import math
import torch

torch.manual_seed(42)


def spirals(n, turns=1.5, noise=0.04):
    t = torch.rand(n).sqrt() * turns * 2 * math.pi
    label = torch.randint(0, 3, (n,))
    ang = t + label * 2 * math.pi / 3
    r = t / (turns * 2 * math.pi) * 2
    pts = torch.stack([r * ang.cos(), r * ang.sin()], 1)
    return pts + noise * torch.randn(n, 2), label


class Net(torch.nn.Module):
    def __init__(self, width=24, depth=40):
        super().__init__()
        self.inp = torch.nn.Linear(2, width)
        self.layers = torch.nn.ModuleList()
        for _ in range(depth):
            self.layers.append(torch.nn.Linear(width, width))
        self.out = torch.nn.Linear(width, 3)

    def forward(self, x):
        x = torch.tanh(self.inp(x))
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.out(x)


def accuracy(model, pts, label):
    with torch.no_grad():
        return (model(pts).argmax(1) == label).float().mean().item()


train_x, train_y = spirals(1500)
test_x, test_y = spirals(500)
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=300, gamma=0.5)
for it in range(600):
    i = torch.randint(0, len(train_x), (64,))
    loss = torch.nn.functional.cross_entropy(model(train_x[i]), train_y[i])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
    if (it + 1) % 60 == 0:
        print("%4d loss=%.4f test_acc=%.3f" % (it + 1, loss.item(), accuracy(model, test_x, test_y)))
