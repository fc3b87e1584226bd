"""A tiny pre-norm GPT on the text of the argparse module, with SGD and clipping."""
import argparse
import inspect

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_


class Block(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv = nn.Linear(d, 3 * d)
        self.proj = nn.Linear(d, d)
        self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))
        self.heads = heads

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = self.qkv(self.ln1(x)).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        att = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(att.transpose(1, 2).reshape(b, t, d))
        return x + self.mlp(self.ln2(x))


class GPT(nn.Module):
    def __init__(self, vocab, block, d=48, layers=3):
        super().__init__()
        self.tok, self.pos = nn.Embedding(vocab, d), nn.Embedding(block, d)
        self.blocks = nn.Sequential(*[Block(d, 4) for _ in range(layers)])
        self.ln = nn.LayerNorm(d)
        self.head = nn.Linear(d, vocab, bias=False)

    def forward(self, idx):
        x = self.tok(idx) + self.pos(torch.arange(idx.shape[1]))
        return self.head(self.ln(self.blocks(x)))


def main():
    torch.manual_seed(0)
    text = inspect.getsource(argparse)[:20000]
    chars = sorted(set(text))
    ids = torch.tensor([chars.index(c) for c in text])
    model = GPT(len(chars), 32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    max_norm = 5e-4
    for step in range(300):
        s = torch.randint(0, len(ids) - 33, (16,))
        x = torch.stack([ids[i : i + 32] for i in s])
        y = torch.stack([ids[i + 1 : i + 33] for i in s])
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        if step % 50 == 0:
            print(step, round(loss.item(), 3))


if __name__ == "__main__":
    main()
