"""A small causal transformer (pre-norm) on sentences of a toy grammar."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

V, D, HEADS, LAYERS, T = 12, 32, 4, 2, 16


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(D, 3 * D)
        self.out = nn.Linear(D, D)

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, HEADS, D // HEADS).permute(2, 0, 3, 1, 4)
        score = q @ k.transpose(-1, -2) / math.sqrt(D // HEADS)
        score = score.masked_fill(torch.ones(t, t, dtype=torch.bool).triu(1), float("-inf"))
        return self.out((score.softmax(-1) @ v).transpose(1, 2).reshape(b, t, D))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.attn = Attention()
        self.mlp = nn.Sequential(nn.Linear(D, 4 * D), nn.GELU(), nn.Linear(4 * D, D))

    def forward(self, x):
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class LM(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok, self.pos = nn.Embedding(V, D), nn.Embedding(T, D)
        self.blocks = nn.Sequential(*[Block() for _ in range(LAYERS)])
        self.ln = nn.LayerNorm(D)
        self.head = nn.Linear(D, V)

    def forward(self, idx):
        x = self.tok(idx) + self.pos(torch.arange(idx.shape[1]))
        return self.head(self.ln(self.blocks(x)))


def sentences(n):
    s = torch.randint(0, V, (n, 2))
    rows = [s[:, 0], s[:, 1]]
    for _ in range(T - 1):
        rows.append((rows[-1] + rows[-2]) % V)
    return torch.stack(rows, 1)


torch.manual_seed(101)
model = LM()
steps = 400
opt = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
sched = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=0.4, total_steps=steps, pct_start=0.2)
for step in range(steps):
    data = sentences(24)
    logits = model(data[:, :-1])
    loss = F.cross_entropy(logits[:, 1:].reshape(-1, V), data[:, 2:].reshape(-1))
    opt.zero_grad()
    loss.backward()
    opt.step()
    sched.step()
    if step % 50 == 49:
        print(f"step {step + 1:4d} lr {sched.get_last_lr()[0]:.2e} loss {loss.item():.4f}")
