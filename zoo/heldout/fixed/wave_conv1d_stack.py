import torch
from torch import nn
import torch.nn.functional as F

torch.manual_seed(351)
L, CH, BLOCKS = 24, 10, 56
t = torch.linspace(0, 1, L)


def waves(n):
    k = torch.randint(0, 3, (n,))
    ph = (t + torch.rand(n, 1)) * 3
    saw = 2 * (ph % 1) - 1
    bank = torch.stack([torch.sin(2 * torch.pi * ph), torch.sign(saw), saw])
    return (bank[k, torch.arange(n)] + 0.15 * torch.randn(n, L)).unsqueeze(1), k


class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp = nn.Conv1d(1, CH, 5, padding=2)
        self.mid = nn.ModuleList()
        for _ in range(BLOCKS):
            c = nn.Conv1d(CH, CH, 3, padding=1)
            nn.init.kaiming_normal_(c.weight, a=0.1)
            nn.init.zeros_(c.bias)
            self.mid.append(c)
        self.out = nn.Linear(CH * L, 3)

    def forward(self, x):
        x = self.inp(x)
        for c in self.mid:
            x = x + 0.1 * F.leaky_relu(c(x), 0.1)
        return self.out(x.flatten(1))


net = Stack()
opt = torch.optim.SGD(net.parameters(), lr=1e-2, momentum=0.9)
for it in range(1, 131):
    x, y = waves(24)
    loss = F.cross_entropy(net(x), y)
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 2.0)
    opt.step()
    if it % 10 == 0:
        print(f"iter {it} loss {loss.item():.4f}")
with torch.no_grad():
    x, y = waves(300)
    print(f"test loss {F.cross_entropy(net(x), y).item():.4f}")
