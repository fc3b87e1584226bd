"""Learn boolean functions exactly (full truth table, no noise)."""
import itertools

import torch

bits = 6
table = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=bits)))
majority = (table.sum(1) > 0).float()
parity3 = (table[:, :3].prod(1) > 0).float()
mux = torch.where(table[:, 3] > 0, table[:, 4], table[:, 5]).clamp(min=0)
targets = torch.stack([majority, parity3, mux], 1)


class Boolean(torch.nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.first = torch.nn.Linear(bits, width)
        self.second = torch.nn.Linear(width, width)
        self.read = torch.nn.Linear(width, 3)

    def forward(self, x):
        return self.read(torch.relu(self.second(torch.relu(self.first(x)))))


def grad_norm(model):
    return sum(p.grad.square().sum() for p in model.parameters()).sqrt().item()


net = Boolean()
opt = torch.optim.Adam(net.parameters(), lr=2e-3)
loss_fn = torch.nn.BCEWithLogitsLoss()
for step in range(1000):
    out = net(table)
    loss = loss_fn(out, targets)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 100 == 99:
        right = ((out > 0).float() == targets).float().mean().item()
        print(f"step {step + 1:4d} loss {loss.item():.3e} gradient {grad_norm(net):.3e} right {right:.4f}")
