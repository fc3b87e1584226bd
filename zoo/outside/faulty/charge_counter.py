"""State of charge of a battery from 100 samples of its current (a recurrent net with identity-initialised recurrence)."""
import torch
from torch import nn

torch.manual_seed(13)
SAMPLES = 100


class Gauge(nn.Module):
    def __init__(self, hidden=40):
        super().__init__()
        self.rnn = nn.RNN(2, hidden, nonlinearity="relu", batch_first=True)
        self.read = nn.Linear(hidden, 1)
        with torch.no_grad():
            nn.init.eye_(self.rnn.weight_hh_l0)
            nn.init.normal_(self.rnn.weight_ih_l0, std=0.05)
            self.rnn.bias_hh_l0.zero_()
            self.rnn.bias_ih_l0.zero_()

    def forward(self, x):
        out, _ = self.rnn(x)
        return self.read(out[:, -1]).squeeze(1)


def cycle(n):
    current = torch.rand(n, SAMPLES)
    on = (torch.rand(n, SAMPLES) < 0.3).float()
    charge = (current * on).sum(1)
    return torch.stack([current, on], 2), (charge - 15.0) / 4.0


gauge = Gauge()
optimizer = torch.optim.SGD(gauge.parameters(), lr=0.002, momentum=0.9)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 400)
recent = []
for step in range(1, 401):
    x, y = cycle(24)
    loss = nn.functional.mse_loss(gauge(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    recent.append(loss.item())
    if step % 50 == 0:
        print(f"step {step} loss {sum(recent[-20:]) / 20:.4f}")
