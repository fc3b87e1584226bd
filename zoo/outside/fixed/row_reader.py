"""Digit images as eight row tokens through a post-norm transformer, written out by hand."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

TOP, STEPS, WARMUP = 5e-3, 330, 120


class PostNormBlock(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = (z.view(b, t, self.heads, -1).transpose(1, 2) for z in self.qkv(x).chunk(3, -1))
        a = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, d)
        x = self.norm1(x + self.proj(a))
        return self.norm2(x + self.down(F.relu(self.up(x))))


class RowReader(nn.Module):
    def __init__(self, d=48, depth=8):
        super().__init__()
        self.inp = nn.Linear(8, d)
        self.pos = nn.Parameter(torch.randn(8, d) * 0.2)
        self.blocks = nn.ModuleList(PostNormBlock(d, 4) for _ in range(depth))
        self.out = nn.Linear(d, 10)

    def forward(self, img):
        h = self.inp(img) + self.pos
        for block in self.blocks:
            h = block(h)
        return self.out(h.mean(1))


def rate(step):
    if step < WARMUP:
        return TOP * (step + 1) / WARMUP
    return TOP * 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP)))


torch.manual_seed(3)
d = load_digits()
x, y = torch.tensor(d.images / 8 - 1).float(), torch.tensor(d.target)
net = RowReader()
optimizer = torch.optim.AdamW(net.parameters(), lr=TOP, weight_decay=0.01)
tail = []
for step in range(STEPS):
    for g in optimizer.param_groups:
        g["lr"] = rate(step)
    rows = torch.randint(0, 1500, (32,))
    loss = F.cross_entropy(net(x[rows]), y[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    tail.append(loss.item())
    if step % 50 == 49:
        print(f"step {step + 1} loss {sum(tail[-25:]) / 25:.4f}")
with torch.no_grad():
    print(f"accuracy {(net(x[1500:]).argmax(1) == y[1500:]).float().mean().item():.3f}")
