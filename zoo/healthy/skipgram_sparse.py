"""Skip-gram word vectors with negative sampling on synthetic topics."""
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
VOCAB, TOPICS, DIM = 1000, 20, 24


class SkipGram(nn.Module):
    def __init__(self):
        super().__init__()
        self.centre = nn.Embedding(VOCAB, DIM, sparse=True)
        self.context = nn.Embedding(VOCAB, DIM, sparse=True)
        nn.init.uniform_(self.centre.weight, -0.3, 0.3)
        nn.init.uniform_(self.context.weight, -0.3, 0.3)

    def forward(self, c, pos, neg):
        v = self.centre(c)
        up = (v * self.context(pos)).sum(-1)
        un = torch.einsum("bd,bkd->bk", v, self.context(neg))
        return F.softplus(-up).mean() + F.softplus(un).sum(1).mean()


def pairs(n=256):
    topic = torch.randint(0, TOPICS, (n,))
    size = VOCAB // TOPICS
    zipf = lambda: (size * torch.rand(n) ** 2).long()
    return topic * size + zipf(), topic * size + zipf(), torch.randint(0, VOCAB, (n, 4))


model = SkipGram()
optimizer = torch.optim.SparseAdam(model.parameters(), lr=2e-2)
for step in range(300):
    loss = model(*pairs())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 30 == 0 or step == 299:
        print(f"step {step} loss {loss.item():.4f}")
