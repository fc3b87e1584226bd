"""Count blobs (1, 2 or 3) in small noisy images."""
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)


class Counter(nn.Module):
    def __init__(self, ch=12, act=torch.relu):
        super().__init__()
        self.act = act
        self.c1 = nn.Conv2d(1, ch, 3, padding=1)
        self.c2 = nn.Conv2d(ch, ch, 3, padding=1)
        self.c3 = nn.Conv2d(ch, ch, 3, padding=1)
        self.c4 = nn.Conv2d(ch, ch, 3, padding=1)
        self.c5 = nn.Conv2d(ch, ch, 3, padding=1)
        self.c6 = nn.Conv2d(ch, ch, 3, padding=1)
        self.fc = nn.Linear(ch * 9, 3)

    def forward(self, x):
        x = self.act(self.c2(self.act(self.c1(x))))
        x = F.max_pool2d(x, 2)
        x = self.act(self.c4(self.act(self.c3(x))))
        x = F.max_pool2d(x, 2)
        x = self.act(self.c6(self.act(self.c5(x))))
        return self.fc(x.flatten(1))


grid = torch.stack(torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij"))


def sample(n):
    count = torch.randint(1, 4, (n,))
    img = torch.zeros(n, 12, 12)
    for k in range(3):
        centre = 1.5 + 9 * torch.rand(n, 2, 1, 1)
        blob = torch.exp(-((grid[None] - centre) ** 2).sum(1) / 1.5)
        img += blob * (k < count).view(-1, 1, 1)
    return 3 * (img + 0.05 * torch.randn_like(img)).unsqueeze(1) - 0.5, count - 1


model = Counter()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
avg = None
for step in range(1, 241):
    x, y = sample(48)
    loss = F.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    avg = loss.item() if avg is None else 0.9 * avg + 0.1 * loss.item()
    if step % 30 == 0:
        print(f"step {step} loss {avg:.4f}")
