import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(d), nn.Linear(d, 2 * d), nn.Linear(2 * d, d)

    def forward(self, x):
        return x + self.down(torch.nn.functional.silu(self.up(self.norm(x))))


class Net(nn.Module):
    def __init__(self, d_in=10, d=32, n=3):
        super().__init__()
        self.enter = nn.Linear(d_in, d)
        self.blocks = nn.ModuleList(Block(d) for _ in range(n))
        self.leave = nn.Linear(d, 1)

    def forward(self, x):
        x = self.enter(x)
        for b in self.blocks:
            x = b(x)
        return self.leave(x)


class Fitter:
    def __init__(self, net, dtype, lr, steps):
        self.net, self.dtype, self.steps = net.to(dtype), dtype, steps
        self.opt = torch.optim.AdamW(self.net.parameters(), lr=lr, weight_decay=0.0)
        self.sched = torch.optim.lr_scheduler.CosineAnnealingLR(self.opt, steps)

    def run(self, source):
        tail = []
        for step in range(1, self.steps + 1):
            x, y = next(source)
            loss = nn.functional.mse_loss(self.net(x.to(self.dtype)).float(), y)
            self.opt.zero_grad()
            loss.backward()
            self.opt.step()
            self.sched.step()
            tail = (tail + [loss.item()])[-40:]
            if step % 40 == 0:
                print("step", step, "mse", round(sum(tail) / len(tail), 4))


def source(batch=64):
    w = torch.randn(10, 3) / 10 ** 0.5
    while True:
        x = torch.randn(batch, 10)
        s = x @ w
        yield x, s[:, :1] + torch.sin(2 * s[:, 1:2]) + 0.5 * s[:, 2:]


torch.manual_seed(90)
Fitter(Net(), dtype=torch.bfloat16, lr=2e-4, steps=200).run(source())
