"""Attention seq2seq with padded inputs; some rows are nothing but padding."""
import torch
from torch import nn

PAD = 0


class Attention(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d)

    def forward(self, query, memory, mask):
        scores = self.q(query) @ self.k(memory).transpose(1, 2) / memory.shape[-1] ** 0.5
        scores = scores.masked_fill(~mask[:, None], float("-inf"))
        return scores.softmax(-1) @ self.v(memory)


class Translator(nn.Module):
    def __init__(self, vocab=14, d=40, out_len=6):
        super().__init__()
        self.embed = nn.Embedding(vocab, d, padding_idx=PAD)
        self.encoder = nn.GRU(d, d, batch_first=True)
        self.queries = nn.Parameter(torch.randn(out_len, d))
        self.attention = Attention(d)
        self.head = nn.Linear(d, vocab)

    def forward(self, x):
        memory, _ = self.encoder(self.embed(x))
        mixed = self.attention(self.queries.expand(len(x), -1, -1), memory, x != PAD)
        return self.head(mixed)


def batch(n, gen, allow_empty):
    lengths = torch.randint(0 if allow_empty else 1, 7, (n,), generator=gen)
    x = torch.randint(1, 14, (n, 6), generator=gen)
    x[torch.arange(6)[None] >= lengths[:, None]] = PAD
    return x, x.flip(1)


def run(steps=200):
    torch.manual_seed(0)
    gen = torch.Generator().manual_seed(0)
    model = Translator()
    opt = torch.optim.Adamax(model.parameters(), lr=5e-3)
    for step in range(steps):
        x, y = batch(32, gen, allow_empty=step > 60)
        loss = nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
        opt.zero_grad()
        loss.backward()
        opt.step()
        if step % 40 == 0:
            print(step, loss.item())


run()
