import random
import torch
import torch.nn as nn


class PairLoss(nn.Module):
    def __init__(self, margin=1.0):
        super().__init__()
        self.margin = margin

    def forward(self, a, b, same):
        dist = (a - b).pow(2).sum(dim=1).add(1e-8).sqrt()
        pull = same * dist.pow(2)
        push = (1 - same) * torch.relu(self.margin - dist).pow(2)
        return (pull + push).mean()


class SignatureNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(2, 12, 5, stride=2), nn.LeakyReLU(0.1),
            nn.Conv1d(12, 24, 5, stride=2), nn.LeakyReLU(0.1),
            nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(96, 8))

    def forward(self, stroke):
        return self.net(stroke)


class SignatureStore:
    def __init__(self, writers=10, each=50, points=40):
        t = torch.linspace(0, 1, points)
        freq, phase = 1 + 4 * torch.rand(writers, 1, 2, 1), 6.3 * torch.rand(writers, 1, 2, 1)
        clean = torch.sin(6.28 * freq * t + phase)
        self.data = clean + 0.3 * torch.randn(writers, each, 2, points)

    def pairs(self, n):
        w, e = self.data.shape[:2]
        left, right, same = [], [], []
        for _ in range(n):
            i, j = random.randrange(w), random.randrange(w)
            if random.random() < 0.5:
                j = i
            left.append(self.data[i, random.randrange(e)])
            right.append(self.data[j, random.randrange(e)])
            same.append(float(i == j))
        return torch.stack(left), torch.stack(right), torch.tensor(same)


random.seed(65)
torch.manual_seed(65)
store, tower, criterion = SignatureStore(), SignatureNet(), PairLoss()
optimizer = torch.optim.Adam(tower.parameters(), lr=2e-3)
for step in range(150):
    a, b, same = store.pairs(6)
    loss = criterion(tower(a), tower(b), same)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 15 == 14:
        print(f"step {step + 1} contrastive {loss.item():.4f}")
