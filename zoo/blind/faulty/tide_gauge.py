import torch
from torch import nn, optim

conf = dict(channels=12, stages=24, kernel=3, lr=0.05, steps=130, batch=12, length=48, seed=77)


class Stage(nn.Module):
    def __init__(self, ch, kernel, dilation):
        super().__init__()
        self.pad = (kernel - 1) * dilation
        self.conv = nn.Conv1d(ch, ch, kernel, dilation=dilation)
        nn.init.xavier_normal_(self.conv.weight, gain=nn.init.calculate_gain("tanh"))
        nn.init.zeros_(self.conv.bias)

    def forward(self, x):
        h = torch.tanh(self.conv(nn.functional.pad(x, (self.pad, 0))))
        return h


class TideModel(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.inlet = nn.Conv1d(1, c["channels"], 1)
        self.stages = nn.Sequential(*(Stage(c["channels"], c["kernel"], 2 ** (i % 3)) for i in range(c["stages"])))
        self.outlet = nn.Conv1d(c["channels"], 1, 1)

    def forward(self, x):
        return self.outlet(self.stages(self.inlet(x)))


def tides(c):
    t = torch.arange(c["length"] + 1).float()
    while True:
        phase, speed = 6.28 * torch.rand(c["batch"], 2, 1), 0.2 + 0.4 * torch.rand(c["batch"], 2, 1)
        wave = torch.sin(speed * t + phase).sum(1, keepdim=True)
        yield wave[..., :-1], wave[..., 1:]


def train(c):
    torch.manual_seed(c["seed"])
    model, crit = TideModel(c), nn.SmoothL1Loss()
    opt = optim.SGD(model.parameters(), lr=c["lr"], momentum=0.9)
    sched = optim.lr_scheduler.StepLR(opt, step_size=100, gamma=0.5)
    gen = tides(c)
    for i in range(c["steps"]):
        x, y = next(gen)
        opt.zero_grad()
        loss = crit(model(x)[..., 12:], y[..., 12:])
        loss.backward()
        opt.step()
        sched.step()
        if i % 20 == 0 or i == c["steps"] - 1:
            print(f"{i:4d} {loss.item():.4f}")


train(conf)
