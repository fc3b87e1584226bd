"""Learn addition of digit strings with a GRU; the curriculum makes problems longer at step 120 and 260."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(1006)


def problem(n, L):
    a, b = torch.randint(0, 10, (n, L)), torch.randint(0, 10, (n, L))
    carry, out = torch.zeros(n, dtype=torch.long), []
    for t in range(L):
        s = a[:, t] + b[:, t] + carry
        out.append(s % 10)
        carry = s // 10
    return torch.cat([F.one_hot(a, 10), F.one_hot(b, 10)], -1).float(), torch.stack(out, 1)


class Adder(nn.Module):
    def __init__(self, h=64):
        super().__init__()
        self.gru = nn.GRU(20, h, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(h + 20, 96), nn.ReLU(), nn.Linear(96, 10))

    def forward(self, x):
        h, _ = self.gru(x)
        return self.mlp(torch.cat([h, x], -1))


net = Adder()
opt = torch.optim.Adam(net.parameters(), lr=5e-3)
for step in range(401):
    L = 1 if step < 120 else 3 if step < 260 else 6
    x, y = problem(64, L)
    loss = F.cross_entropy(net(x).flatten(0, 1), y.flatten())
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 2.0)
    opt.step()
    if step % 40 == 0:
        print(f"step {step} length {L} loss {loss.item():.4f}")
