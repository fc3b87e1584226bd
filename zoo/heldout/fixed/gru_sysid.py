import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(301)


def get_xy(n=32, T=30):
    u = torch.randn(n, T, 2)
    s = torch.zeros(n, 2)
    ys = []
    for t in range(T):
        s = 0.8 * s + 0.5 * torch.tanh(u[:, t])
        ys.append(s[:, :1] * s[:, 1:] + s[:, :1])
    return u, torch.stack(ys, 1)


class SysID(nn.Module):
    def __init__(self, hid=32):
        super().__init__()
        self.gru = nn.GRU(2, hid, batch_first=True)
        self.readout = nn.Linear(hid, 1)

    def forward(self, u):
        return self.readout(self.gru(u)[0])


def clip_(params, max_norm):
    grads = [p.grad for p in params if p.grad is not None]
    total = torch.sqrt(sum((g ** 2).sum() for g in grads))
    scale = max_norm / (total + 1e-6)
    if scale < 1:
        for g in grads:
            g.mul_(scale)
    return total


model = SysID()
params = list(model.parameters())
opt = torch.optim.SGD(params, lr=0.1, momentum=0.9)
for it in range(250):
    u, y = get_xy()
    loss = F.mse_loss(model(u), y, reduction="sum") / u.size(0)
    opt.zero_grad()
    loss.backward()
    clip_(params, 0.25)
    opt.step()
    if it % 25 == 0 or it == 249:
        print(f"it {it} loss {loss.item():.4f}")
