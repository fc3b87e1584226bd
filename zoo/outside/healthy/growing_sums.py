"""Counting: predict the running sum of +-1 steps, for longer and longer walks."""
import torch
from torch import nn

torch.manual_seed(23)


class Counter(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.gru = nn.GRU(1, hidden, batch_first=True)
        self.out = nn.Linear(hidden, 1)

    def forward(self, x):
        h, _ = self.gru(x)
        return self.out(h).squeeze(-1)


net = Counter()
opt = torch.optim.Adam(net.parameters(), lr=5e-3)
step = 0
for length in (3, 6, 12, 20):
    for _ in range(150):
        x = torch.randint(0, 2, (48, length)).float() * 2 - 1
        y = x.cumsum(1)
        loss = nn.functional.mse_loss(net(x[..., None]), y)
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        step += 1
        if step % 50 == 0:
            print(f"step {step} length {length} mse {loss.item():.4f} of {y.var().item():.2f}")
