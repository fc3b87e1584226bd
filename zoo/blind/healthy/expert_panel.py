import torch
from torch import nn
import torch.nn.functional as F


class MoE(nn.Module):
    def __init__(self, d, n_experts=6):
        super().__init__()
        self.gate = nn.Linear(d, n_experts)
        self.experts = nn.ModuleList([nn.Sequential(nn.Linear(d, 24), nn.GELU(), nn.Linear(24, 1)) for _ in range(n_experts)])

    def forward(self, x):
        p = self.gate(x).softmax(-1)
        w, idx = p.max(-1)
        out = x.new_zeros(len(x), 1)
        for e, expert in enumerate(self.experts):
            rows = (idx == e).nonzero().squeeze(1)
            if len(rows):
                out = out.index_add(0, rows, w[rows, None] * expert(x[rows]))
        share = F.one_hot(idx, p.size(1)).float().mean(0)
        return out, p.size(1) * (share * p.mean(0)).sum()


torch.manual_seed(29)
moe = MoE(5)
opt = torch.optim.AdamW(moe.parameters(), lr=4e-3)
acc = 0.0
for step in range(1, 301):
    x = torch.randn(12, 5)
    y = torch.where(x[:, :1] > 0, torch.sin(2 * x[:, 1:2]), x[:, 2:3] * 1.5)
    pred, balance = moe(x)
    loss = F.mse_loss(pred, y) + 0.01 * balance
    opt.zero_grad()
    loss.backward()
    opt.step()
    acc += loss.item()
    if step % 60 == 0:
        print(step, round(acc / 60, 4))
        acc = 0.0
