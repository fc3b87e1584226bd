"""Hard-routed experts: one of eight is needed only now and then; micro-batches are accumulated."""
import torch
from torch import nn


class Router(nn.Module):
    def __init__(self, n=8, d=24):
        super().__init__()
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, 1)) for _ in range(n))

    def forward(self, x, kind):
        out = x.new_zeros(len(x), 1)
        for k, expert in enumerate(self.experts):
            rows = (kind == k).nonzero().squeeze(1)
            if len(rows):
                out = out.index_copy(0, rows, expert(x[rows]))
        return out


torch.manual_seed(0)
model = Router()
opt = torch.optim.Adam(model.parameters(), lr=4e-3)
share = torch.tensor([40.0, 30, 20, 10, 5, 3, 2, 0.3])
truth = torch.randn(8, 24)
for step in range(220):
    opt.zero_grad()
    for micro in range(4):
        x, kind = torch.randn(16, 24), torch.multinomial(share, 16, replacement=True)
        y = (x * truth[kind]).sum(1, keepdim=True) / 5
        loss = nn.functional.mse_loss(model(x, kind), y) / 4
        loss.backward()
    opt.step()
    if step % 40 == 0:
        print(step, 4 * loss.item())
