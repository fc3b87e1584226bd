"""Sentiment of very short reviews with attention pooling."""
import torch
from torch import nn

torch.manual_seed(1)
GOOD = "great lovely superb fine happy brilliant warm".split()
BAD = "awful boring poor sad terrible dull cold".split()
NEUTRAL = "the film was a story with some actors and music it had scenes".split()
vocab = {w: i + 1 for i, w in enumerate(GOOD + BAD + NEUTRAL)}


def review(k):
    label = k % 2
    words = [w for w in (GOOD if label else BAD)]
    chosen = [words[int(torch.randint(0, 7, (1,)))]] + [NEUTRAL[int(i)] for i in torch.randint(0, len(NEUTRAL), (k % 5,))]
    text = " ".join(chosen) if k != 911 else "meh"
    return [vocab[w] for w in text.split() if w in vocab], label


class AttentionPool(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.score = nn.Linear(dim, 1)

    def forward(self, x, pad):
        s = self.score(x).squeeze(-1).masked_fill(pad, -1e9)
        return (s.softmax(-1).unsqueeze(-1) * x).sum(1)


class Sentiment(nn.Module):
    def __init__(self, n, dim=16):
        super().__init__()
        self.embed = nn.Embedding(n, dim, padding_idx=0)
        self.pool = AttentionPool(dim)
        self.out = nn.Sequential(nn.Linear(dim, 16), nn.Tanh(), nn.Linear(16, 2))

    def forward(self, ids):
        return self.out(self.pool(self.embed(ids), ids == 0))


reviews = [review(k) for k in range(2400)]
model = Sentiment(len(vocab) + 1)
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for step in range(150):
    part = reviews[step * 16:step * 16 + 16]
    ids = torch.zeros(16, 6, dtype=torch.long)
    for row, (tokens, _) in enumerate(part):
        ids[row, :len(tokens)] = torch.tensor(tokens, dtype=torch.long)
    loss = nn.functional.cross_entropy(model(ids), torch.tensor([lab for _, lab in part]))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 15 == 14:
        print(f"step {step + 1} loss {loss.item():.4f}")
