import torch
import torch.nn as nn
import torch.nn.functional as F


class SeqNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1, self.c2 = nn.Conv1d(3, 16, 5, padding=2), nn.Conv1d(16, 16, 5, padding=2)
        self.fc = nn.Linear(16, 3)

    def forward(self, x):
        x = F.relu(self.c1(x))
        x = F.relu(self.c2(F.max_pool1d(x, 2)))
        return self.fc(x.mean(-1))


def motion(n):
    y = torch.randint(0, 3, (n,))
    t = torch.arange(30) / 5.0
    x = torch.sin(t * (1 + y.float())[:, None, None] + 6.28 * torch.rand(n, 3, 1)) + 0.4 * torch.randn(n, 3, 30)
    return x, y


torch.manual_seed(10)
ACCUM = 4
model = SeqNet()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
optimizer.zero_grad()
running = []
for i in range(1, 361):
    x, y = motion(8)
    loss = F.cross_entropy(model(x), y)
    (loss / ACCUM).backward()
    running.append(loss.item())
    if i % ACCUM == 0:
        optimizer.step()
        optimizer.zero_grad()
    if i % 60 == 0:
        print("micro-batch", i, "loss", round(sum(running[-60:]) / 60, 4))
