import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(1011)
V, T, D = 24, 20, 40
perm = torch.randperm(V)


def batch(n=24):
    s = torch.randint(0, V, (n, 1))
    seq = [s]
    for _ in range(T):
        nxt = perm[seq[-1]]
        noise = torch.randint(0, V, (n, 1))
        seq.append(torch.where(torch.rand(n, 1) < 0.15, noise, nxt))
    s = torch.cat(seq, 1)
    return s[:, :-1], s[:, 1:]


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.att = nn.MultiheadAttention(D, 4, batch_first=True)
        self.ff = nn.Sequential(nn.Linear(D, 2 * D), nn.ReLU(), nn.Linear(2 * D, D))

    def forward(self, x, mask):
        h = self.n1(x)
        x = x + self.att(h, h, h, attn_mask=mask, need_weights=False)[0]
        return x + self.ff(self.n2(x))


class LM(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.pos = nn.Embedding(V, D), nn.Parameter(torch.zeros(T, D))
        self.block = Block()          # the same block is applied three times (ALBERT)
        self.norm = nn.LayerNorm(D)
        self.head = nn.Linear(D, V, bias=False)
        self.head.weight = self.emb.weight
        nn.init.normal_(self.emb.weight, std=0.05)

    def forward(self, x):
        mask = torch.triu(torch.full((T, T), float("-inf")), 1)
        h = self.emb(x) * D ** 0.5 + self.pos
        for _ in range(3):
            h = self.block(h, mask)
        return self.head(self.norm(h))


lm = LM()
opt = torch.optim.AdamW(lm.parameters(), lr=4e-3)
sched = torch.optim.lr_scheduler.OneCycleLR(opt, 4e-3, total_steps=220)
for it in range(220):
    x, y = batch()
    loss = F.cross_entropy(lm(x).flatten(0, 1), y.flatten())
    opt.zero_grad()
    loss.backward()
    opt.step()
    sched.step()
    if it % 30 == 0 or it == 219:
        print(f"it {it} loss {loss.item():.4f}")
