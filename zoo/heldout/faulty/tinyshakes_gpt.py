"""nanoGPT-like decoder on a generated bracket language."""
import math, random
from dataclasses import dataclass
import torch
import torch.nn as nn
from torch.nn import functional as F

torch.manual_seed(1337); random.seed(1337)


@dataclass
class Config:
    block_size: int = 24
    n_layer: int = 3
    n_head: int = 2
    n_embd: int = 32
    lr: float = 2e-1
    iters: int = 240


cfg = Config()


def sentence(depth=0):
    a, b = random.choice([("(", ")"), ("[", "]"), ("{", "}")])
    inner = "".join(sentence(depth + 1) for _ in range(random.choice([0, 1, 1, 2]))) if depth < 3 else "x"
    return a + inner + b


text = "\n".join(sentence() for _ in range(800))
vocab = sorted(set(text)); stoi = {c: i for i, c in enumerate(vocab)}
data = torch.tensor([stoi[c] for c in text])


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(c.n_embd), nn.LayerNorm(c.n_embd)
        self.c_attn = nn.Linear(c.n_embd, 3 * c.n_embd)
        self.c_proj = nn.Linear(c.n_embd, c.n_embd)
        self.mlp = nn.Sequential(nn.Linear(c.n_embd, 4 * c.n_embd), nn.GELU(), nn.Linear(4 * c.n_embd, c.n_embd))
        self.h = c.n_head

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = (z.view(B, T, self.h, C // self.h).transpose(1, 2) for z in self.c_attn(self.ln_1(x)).split(C, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).reshape(B, T, C))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(len(vocab), c.n_embd), nn.Embedding(c.block_size, c.n_embd)
        self.h = nn.Sequential(*[Block(c) for _ in range(c.n_layer)])
        self.ln_f = nn.LayerNorm(c.n_embd)
        self.lm_head = nn.Linear(c.n_embd, len(vocab), bias=False)

    def forward(self, idx, targets):
        x = self.ln_f(self.h(self.wte(idx) + self.wpe(torch.arange(idx.size(1)))))
        return F.cross_entropy(self.lm_head(x).flatten(0, 1), targets.flatten())


model = GPT(cfg)
optimizer = torch.optim.AdamW(model.parameters(), lr=cfg.lr, betas=(0.9, 0.95), weight_decay=0.1)
for it in range(cfg.iters):
    lr = cfg.lr * (it + 1) / 20 if it < 20 else cfg.lr
    for grp in optimizer.param_groups:
        grp["lr"] = lr
    ix = torch.randint(len(data) - cfg.block_size - 1, (24,))
    xb = torch.stack([data[i:i + cfg.block_size] for i in ix])
    yb = torch.stack([data[i + 1:i + 1 + cfg.block_size] for i in ix])
    loss = model(xb, yb)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if it % 40 == 0 or it == cfg.iters - 1:
        print(f"iter {it}: loss {loss.item():.4f}")
