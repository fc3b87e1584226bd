"""Train a character model on a generated nursery-rhyme grammar."""
import math
import random

import torch
import torch.nn as nn
import torch.nn.functional as F

# -----------------------------------------------------------------------------
block_size = 32
batch_size = 16
n_layer, n_head, n_embd = 6, 4, 48
max_iters = 250
learning_rate = 8e-3
eval_interval = 50
seed = 1337
# -----------------------------------------------------------------------------
random.seed(seed)
torch.manual_seed(seed)


def rhyme():
    who = random.choice(["the cat", "a dog", "the old crow", "my aunt", "a mouse"])
    does = random.choice(["sat on", "ran to", "looked at", "sang for", "hid from"])
    what = random.choice(["the mat", "the moon", "a hill", "the king", "some cheese"])
    return f"{who} {does} {what}. "


text = "".join(rhyme() for _ in range(3000))
chars = sorted(set(text))
stoi = {c: i for i, c in enumerate(chars)}
data = torch.tensor([stoi[c] for c in text])
cut = int(0.9 * len(data))
splits = {"train": data[:cut], "val": data[cut:]}


def get_batch(split):
    d = splits[split]
    ix = torch.randint(len(d) - block_size - 1, (batch_size,))
    return torch.stack([d[i:i + block_size] for i in ix]), torch.stack([d[i + 1:i + block_size + 1] for i in ix])


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(n_embd, 3 * n_embd)
        self.proj = nn.Linear(n_embd, n_embd)
        self.fc1 = nn.Linear(n_embd, 4 * n_embd)
        self.fc2 = nn.Linear(4 * n_embd, n_embd)
        self.ln1, self.ln2 = nn.LayerNorm(n_embd), nn.LayerNorm(n_embd)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = (t.view(B, T, n_head, -1).transpose(1, 2) for t in self.qkv(x).split(C, -1))
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, T, C)
        x = self.ln1(x + self.proj(a))
        return self.ln2(x + self.fc2(F.relu(self.fc1(x))))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok = nn.Embedding(len(chars), n_embd)
        self.pos = nn.Embedding(block_size, n_embd)
        self.layers = nn.Sequential(*[Layer() for _ in range(n_layer)])
        self.head = nn.Linear(n_embd, len(chars))
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.xavier_uniform_(p)

    def forward(self, idx, targets):
        x = self.tok(idx) + self.pos.weight[:idx.size(1)]
        logits = self.head(self.layers(x))
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


@torch.no_grad()
def estimate(model):
    return {s: sum(model(*get_batch(s)).item() for _ in range(5)) / 5 for s in splits}


model = GPT()
optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, betas=(0.9, 0.98))
for it in range(max_iters):
    if it % eval_interval == 0:
        e = estimate(model)
        print(f"step {it}: train loss {e['train']:.4f}, val loss {e['val']:.4f}")
    loss = model(*get_batch("train"))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
e = estimate(model)
print(f"step {max_iters}: train loss {e['train']:.4f}, val loss {e['val']:.4f}")
