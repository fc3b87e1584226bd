import random

import torch
from sklearn.datasets import load_digits
from torch import nn


class PairSampler:
    """Draws half matching and half non-matching pairs of digit images."""

    def __init__(self, images, labels, seed):
        self.images, self.labels = images, labels
        self.by_class = {int(c): (labels == c).nonzero().flatten().tolist() for c in labels.unique()}
        self.rnd = random.Random(seed)

    def draw(self, count):
        left, right, same = [], [], []
        for k in range(count):
            c = self.rnd.randrange(10)
            d = c if k % 2 == 0 else (c + self.rnd.randrange(1, 10)) % 10
            left.append(self.rnd.choice(self.by_class[c]))
            right.append(self.rnd.choice(self.by_class[d]))
            same.append(float(c == d))
        return self.images[left], self.images[right], torch.tensor(same)


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.tower = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8, bias=False))

    def forward(self, a, b):
        diff = self.tower(a) - self.tower(b)
        return diff.pow(2).sum(1).sqrt()


def contrastive(dist, same, margin=1.5):
    return (same * dist ** 2 + (1 - same) * (margin - dist).clamp(min=0) ** 2).mean()


if __name__ == "__main__":
    torch.manual_seed(2)
    ds = load_digits()
    images = torch.tensor(ds.data, dtype=torch.float32) / 16
    labels = torch.tensor(ds.target)
    train = PairSampler(images[:1400], labels[:1400], seed=2)
    test = PairSampler(images[1400:], labels[1400:], seed=3)
    net = Siamese()
    opt = torch.optim.Adam(net.parameters(), lr=1e-3)
    for step in range(1, 501):
        a, b, same = train.draw(64)
        loss = contrastive(net(a, b), same)
        opt.zero_grad()
        loss.backward()
        opt.step()
        if step % 50 == 0:
            with torch.no_grad():
                a, b, same = test.draw(400)
                d = net(a, b)
                acc = ((d < 0.75).float() == same).float().mean().item()
            print(f"[{step}] loss {loss.item():.4f} test {contrastive(d, same).item():.4f} verification {acc:.3f}")
