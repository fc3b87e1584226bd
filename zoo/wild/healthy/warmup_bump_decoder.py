"""Each position must name the larger of its own and its left neighbour's token."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

MOD, D, HEADS, LAYERS = 17, 64, 4, 2


def lr_at(step, peak=4e-3, warm=60, total=500):
    if step < warm:
        return peak * (step + 1) / warm
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / (total - warm)))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.attn = nn.MultiheadAttention(D, HEADS, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(D, 4 * D), nn.GELU(), nn.Linear(4 * D, D), nn.Dropout(0.05))

    def forward(self, x, mask):
        h = self.ln1(x)
        x = x + self.attn(h, h, h, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp(self.ln2(x))


class NeighbourMax(nn.Module):
    def __init__(self, length=8):
        super().__init__()
        self.tok, self.pos = nn.Embedding(MOD, D), nn.Embedding(length, D)
        self.blocks = nn.ModuleList([Block() for _ in range(LAYERS)])
        self.ln, self.out = nn.LayerNorm(D), nn.Linear(D, MOD)
        self.register_buffer("mask", torch.triu(torch.ones(length, length, dtype=torch.bool), 1))

    def forward(self, t):
        x = self.tok(t) + self.pos.weight
        for b in self.blocks:
            x = b(x, self.mask)
        return self.out(self.ln(x))


def batch(n, length=8):
    t = torch.randint(0, MOD, (n, length))
    y = torch.maximum(t, t.roll(1, 1))
    y[:, 0] = t[:, 0]
    return t, y


torch.manual_seed(29)
model = NeighbourMax()
decay = [p for p in model.parameters() if p.dim() > 1]
rest = [p for p in model.parameters() if p.dim() <= 1]
opt = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}], betas=(0.9, 0.95))
for step in range(500):
    for group in opt.param_groups:
        group["lr"] = lr_at(step)
    t, y = batch(48)
    loss = F.cross_entropy(model(t).flatten(0, 1), y.flatten())
    opt.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    if step % 50 == 49:
        model.eval()
        with torch.no_grad():
            t, y = batch(300)
            acc = (model(t).argmax(-1) == y).float().mean().item()
        model.train()
        print(f"step {step + 1} lr {lr_at(step):.5f} loss {loss.item():.4f} accuracy {acc:.4f}")
