import torch
import torch.nn as nn

torch.manual_seed(42)
T, BATCH, HID = 80, 24, 32


class LeakyTankCell(nn.Module):
    """water level state: relu(recur(h) + inject(u))"""

    def __init__(self, n_in, n_hidden):
        super().__init__()
        self.inject = nn.Linear(n_in, n_hidden)
        self.recur = nn.Linear(n_hidden, n_hidden, bias=False)
        nn.init.normal_(self.inject.weight, std=0.05)
        nn.init.zeros_(self.inject.bias)
        nn.init.eye_(self.recur.weight)

    def forward(self, u, h):
        return torch.relu(self.recur(h) + self.inject(u))


class Reservoir(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = LeakyTankCell(2, HID)
        self.gauge = nn.Linear(HID, 1)

    def forward(self, inflow):
        h = inflow.new_zeros(inflow.size(0), HID)
        for u in inflow.unbind(1):
            h = self.cell(u, h)
        return self.gauge(h).squeeze(1)


def season():
    rain = torch.rand(BATCH, 1) * (0.5 + torch.rand(BATCH, T))
    gate = torch.rand(BATCH, 1).expand(BATCH, T)
    return torch.stack([rain, gate], 2), (rain - gate).mean(1) * 2


model = Reservoir()
optim = torch.optim.SGD(model.parameters(), lr=2e-4, momentum=0.9)
mse = nn.MSELoss()


def one_update():
    x, y = season()
    optim.zero_grad()
    loss = mse(model(x), y)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optim.step()
    return loss.item()


for k in range(100):
    value = one_update()
    if k % 10 == 9:
        print("update", k + 1, "mse", round(value, 4))
