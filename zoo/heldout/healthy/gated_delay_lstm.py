import torch
import torch.nn as nn

torch.manual_seed(1019)


class GatedCell(nn.Module):
    """Minimal gated unit; the gate has a bias that keeps it mostly shut."""

    def __init__(self, i, h):
        super().__init__()
        self.cand = nn.Linear(i + h, h)
        self.gate = nn.Linear(i + h, h)
        self.sig = nn.Sigmoid()
        nn.init.constant_(self.gate.bias, -2.5)

    def forward(self, x, h):
        z = torch.cat([x, h], 1)
        g = self.sig(self.gate(z))
        return (1 - g) * h + g * torch.tanh(self.cand(z))


cell, head = GatedCell(5, 40), nn.Linear(40, 4)
params = [*cell.parameters(), *head.parameters()]
opt = torch.optim.RMSprop(params, lr=2e-3)
crit = nn.CrossEntropyLoss()
for step in range(1, 221):
    y = torch.randint(0, 4, (32,))
    x = 0.1 * torch.randn(25, 32, 5)
    x[2, torch.arange(32), y] += 1.0
    x[2, :, 4] += 1.0
    h = torch.zeros(32, 40)
    for t in range(25):
        h = cell(x[t], h)
    loss = crit(head(h), y)
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(params, 1.0)
    opt.step()
    if step % 20 == 0:
        print(f"step {step} loss {loss.item():.4f}")
