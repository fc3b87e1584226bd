"""Gradient accumulation in a small causal convolution language model."""
from types import SimpleNamespace

import torch
import torch.nn as nn
import torch.nn.functional as F

args = SimpleNamespace(micro=4, accum=8, steps=1200, lr=2e-3, ctx=24, dim=48)
torch.manual_seed(41)

PATTERN = "abcabdabeacbacd" * 3
WORDS = ["".join(PATTERN[i:i + n]) for i, n in [(0, 5), (4, 7), (9, 4), (2, 6), (11, 8)]]


def make_text(n):
    idx = torch.randint(0, len(WORDS), (n,))
    return " ".join(WORDS[i] for i in idx)


text = make_text(4000)
vocab = {c: i for i, c in enumerate(sorted(set(text)))}
ids = torch.tensor([vocab[c] for c in text])
split = int(0.9 * len(ids))


class CausalConv(nn.Module):
    def __init__(self, dim, dilation):
        super().__init__()
        self.pad = 2 * dilation
        self.conv = nn.Conv1d(dim, 2 * dim, 3, dilation=dilation)

    def forward(self, x):
        a, g = self.conv(F.pad(x, (self.pad, 0))).chunk(2, 1)
        return x + torch.tanh(a) * torch.sigmoid(g)


class ConvLM(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(len(vocab), args.dim)
        self.stack = nn.Sequential(*[CausalConv(args.dim, d) for d in (1, 2, 4)])
        self.out = nn.Conv1d(args.dim, len(vocab), 1)

    def forward(self, t):
        return self.out(self.stack(self.emb(t).transpose(1, 2)))


def draw(n, lo, hi):
    s = torch.randint(lo, hi - args.ctx - 1, (n,))
    block = torch.stack([ids[i:i + args.ctx + 1] for i in s])
    return block[:, :-1], block[:, 1:]


model = ConvLM()
optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
window = 0.0
for micro_step in range(1, args.steps + 1):
    x, y = draw(args.micro, 0, split)
    loss = F.cross_entropy(model(x), y)
    (loss / args.accum).backward()
    window += loss.item()
    if micro_step % args.accum == 0:
        optimizer.step()
        optimizer.zero_grad()
    if micro_step % 120 == 0:
        with torch.no_grad():
            vx, vy = draw(64, split, len(ids))
            val = F.cross_entropy(model(vx), vy).item()
        print(f"update {micro_step // args.accum}: train {window / 120:.4f} val {val:.4f}")
        window = 0.0
