"""Remember the sign of an early pulse until the end of a recording."""
import torch
from torch import nn

torch.manual_seed(1)
HIDDEN, LENGTH = 24, 120


class Memory(nn.Module):
    def __init__(self):
        super().__init__()
        self.W_xh = nn.Parameter(torch.empty(1, HIDDEN))
        self.W_hh = nn.Parameter(torch.empty(HIDDEN, HIDDEN))
        self.b = nn.Parameter(torch.zeros(HIDDEN))
        self.out = nn.Linear(HIDDEN, 2)
        nn.init.xavier_uniform_(self.W_xh)
        nn.init.xavier_uniform_(self.W_hh, gain=0.9)

    def forward(self, x):
        h = torch.zeros(x.shape[0], HIDDEN)
        for t in range(x.shape[1]):
            new = torch.tanh(x[:, t] @ self.W_xh + h @ self.W_hh + self.b)
            h = h + 0.03 * new
        return self.out(h)


def recordings(n=24):
    sign = torch.randint(0, 2, (n,))
    x = 0.1 * torch.randn(n, LENGTH, 1)
    x[:, 2:6, 0] += (2.0 * sign - 1).unsqueeze(1) * 1.5
    return x, sign


model = Memory()
opt = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
criterion = nn.CrossEntropyLoss()
for step in range(120):
    x, y = recordings()
    loss = criterion(model(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 12 == 0 or step == 119:
        print(f"{step} loss {loss.item():.5g}")
