import math

import torch
from torch import nn

torch.manual_seed(0)


class StatefulRNN(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.rnn = nn.RNN(1, hidden, batch_first=True)
        self.out = nn.Linear(hidden, 1)

    def forward(self, x, h):
        y, h = self.rnn(x, h)
        return self.out(y), h


n, total, chunk = 8, 4001, 20
t = torch.arange(total).float()
freq = 0.1 + 0.2 * torch.rand(n, 1)
stream = torch.sin(freq * t) + 0.3 * torch.sin(2 * math.pi * t / 50 + torch.rand(n, 1) * 6) + 0.02 * torch.randn(n, total)

model = StatefulRNN()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
hidden = None
for k in range(0, total - 1, chunk):
    x = stream[:, k:k + chunk].unsqueeze(-1)
    y = stream[:, k + 1:k + chunk + 1].unsqueeze(-1)
    if hidden is not None:
        hidden = hidden.detach()
    pred, hidden = model(x, hidden)
    loss = nn.functional.mse_loss(pred, y)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if (k // chunk) % 20 == 0 or k + chunk >= total - 1:
        print(f"t {k} loss {loss.item():.5f}")
