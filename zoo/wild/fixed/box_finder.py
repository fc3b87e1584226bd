"""Detector toy: find the centre and size of the bright box."""
import torch
import torch.nn as nn
import torch.nn.functional as F

HYP = {
    "lr0": 2e-3,
    "lrf": 0.1,
    "weight_decay": 5e-4,
    "epochs": 10,
    "box_gain": 5.0,
}


class BoxFinder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 12, 3, stride=2, padding=1), nn.SiLU(),
                                  nn.Conv2d(12, 24, 3, stride=2, padding=1), nn.SiLU())
        self.regress = nn.Sequential(nn.Linear(24 * 16, 64), nn.SiLU(), nn.Linear(64, 4))

    def forward(self, x):
        return self.regress(self.conv(x).flatten(1)).sigmoid()


def scenes(n, size=16):
    wh = 0.2 + 0.4 * torch.rand(n, 2)
    xy = wh / 2 + (1 - wh) * torch.rand(n, 2)
    c = (torch.arange(size) + 0.5) / size
    in_x = ((c[None] - xy[:, :1]).abs() < wh[:, :1] / 2)
    in_y = ((c[None] - xy[:, 1:]).abs() < wh[:, 1:] / 2)
    img = (in_y[:, :, None] & in_x[:, None, :]).float() + 0.3 * torch.randn(n, size, size)
    return img.unsqueeze(1), torch.cat([xy, wh], 1)


def iou(a, b):
    lo = torch.max(a[:, :2] - a[:, 2:] / 2, b[:, :2] - b[:, 2:] / 2)
    hi = torch.min(a[:, :2] + a[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2)
    inter = (hi - lo).clamp(min=0).prod(1)
    return inter / (a[:, 2:].prod(1) + b[:, 2:].prod(1) - inter)


def train(hyp):
    torch.manual_seed(8)
    x, box = scenes(1600)
    vx, vbox = scenes(300)
    model = BoxFinder()
    opt = torch.optim.Adam(model.parameters(), lr=hyp["lr0"], weight_decay=hyp["weight_decay"])
    lf = lambda e: 1 - (1 - hyp["lrf"]) * e / hyp["epochs"]  # noqa: E731
    sched = torch.optim.lr_scheduler.LambdaLR(opt, lf)
    for epoch in range(hyp["epochs"]):
        for rows in torch.randperm(len(x)).split(32):
            loss = hyp["box_gain"] * F.smooth_l1_loss(model(x[rows]), box[rows], beta=0.1)
            opt.zero_grad()
            loss.backward()
            opt.step()
        sched.step()
        with torch.no_grad():
            m = iou(model(vx), vbox).mean().item()
        print(f"epoch {epoch} box loss {loss.item():.4f} mean IoU {m:.4f}")


train(HYP)
