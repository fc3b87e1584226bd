import torch
from torch import nn
from sklearn.datasets import load_digits

torch.manual_seed(44)
d = load_digits()
images = torch.tensor((d.images - 4.88) / 6.0, dtype=torch.float32).unsqueeze(1)
labels = torch.tensor(d.target)


class ResConv(nn.Module):
    def __init__(self, width=16, depth=3):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(depth))
        self.head = nn.Linear(width * 16, 10)

    def forward(self, x):
        x = self.stem(x)
        for conv in self.blocks:
            x = x + torch.relu(conv(x))
        return self.head(x.flatten(1))


def split_groups(model, decay):
    yes = [p for p in model.parameters() if p.ndim > 1]
    no = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": yes, "weight_decay": decay}, {"params": no, "weight_decay": 0.0}]


net = ResConv()
opt = torch.optim.SGD(split_groups(net, decay=0.5), lr=0.01, momentum=0.9)
sched = torch.optim.lr_scheduler.MultiStepLR(opt, milestones=[120, 160], gamma=0.5)
ema = None
for step in range(180):
    pick = torch.randint(0, len(labels), (48,))
    loss = nn.functional.cross_entropy(net(images[pick]), labels[pick])
    opt.zero_grad()
    loss.backward()
    opt.step()
    sched.step()
    ema = loss.item() if ema is None else 0.95 * ema + 0.05 * loss.item()
    if step % 30 == 29:
        print("step %d lr %.4f loss %.4f" % (step + 1, sched.get_last_lr()[0], ema))
