import torch
from torch import nn
from sklearn.datasets import load_digits

torch.manual_seed(46)
d = load_digits()
x = torch.tensor((d.images - 4.88) / 6.02, dtype=torch.float32).unsqueeze(1)
y = torch.tensor(d.target)


def unit(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU())


net = nn.Sequential(unit(1, 12), nn.MaxPool2d(2), unit(12, 24), nn.MaxPool2d(2), unit(24, 32),
                    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
STEPS = 130
opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
sched = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=0.5, total_steps=STEPS, cycle_momentum=True)
crit = nn.CrossEntropyLoss(label_smoothing=0.1)
for step in range(STEPS):
    i = torch.randint(0, len(x), (64,))
    loss = crit(net(x[i]), y[i])
    opt.zero_grad()
    loss.backward()
    opt.step()
    sched.step()
    if step % 13 == 12:
        print(f"{step + 1:4d} lr {sched.get_last_lr()[0]:.3f} loss {loss.item():.4f}")
