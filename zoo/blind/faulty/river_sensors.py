import csv
import io
import math
import random
import torch
from torch import nn


def export():
    """what the station's logger writes: level, flow, rain, temperature -> tomorrow's level"""
    rnd, buf = random.Random(17), io.StringIO()
    w = csv.writer(buf)
    w.writerow(["level", "flow", "rain", "temp", "target"])
    for i in range(900):
        level, flow, rain, temp = (rnd.gauss(0, 1) for _ in range(4))
        target = 0.7 * level + 0.4 * math.tanh(flow) + 0.5 * rain * (temp > 0) + rnd.gauss(0, 0.1)
        row = [level, flow, rain, temp, target]
        if i in (611, 612):
            row[2] = "nan"
        w.writerow(row)
    buf.seek(0)
    return buf


class Residual(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.a, self.b = nn.Linear(d, d), nn.Linear(d, d)

    def forward(self, x):
        return x + self.b(torch.relu(self.a(x)))


class FlowNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc_in, self.res, self.fc_out = nn.Linear(4, 32), Residual(32), nn.Linear(32, 1)

    def forward(self, x):
        return self.fc_out(torch.relu(self.res(self.fc_in(x))))[:, 0]


reader = csv.DictReader(export())
rows = [[float(v) for v in r.values()] for r in reader]
table = torch.tensor(rows)
torch.manual_seed(17)
net = FlowNet()
opt = torch.optim.Adam(net.parameters(), lr=4e-3)
for epoch in range(3):
    total, count = 0.0, 0
    for k, chunk in enumerate(table.split(20)):
        loss = nn.functional.mse_loss(net(chunk[:, :4]), chunk[:, 4])
        opt.zero_grad()
        loss.backward()
        opt.step()
        total, count = total + loss.item(), count + 1
        if k % 15 == 14:
            print(f"epoch {epoch} rows {20 * (k + 1)} loss {total / count:.4f}")
            total, count = 0.0, 0
