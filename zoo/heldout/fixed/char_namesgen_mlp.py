"""Bengio-2003 style character MLP on made-up names (makemore-like), raw tensors."""
import torch
import torch.nn.functional as F

g = torch.Generator().manual_seed(2147483647)
torch.manual_seed(42)
syll = ["ka", "ri", "mo", "el", "sa", "ten", "lu", "bri", "an", "do", "ver", "ix"]
names = ["".join(syll[int(i)] for i in torch.randint(0, len(syll), (int(torch.randint(2, 4, (1,))),)))
         for _ in range(600)]
chars = sorted(set("".join(names)))
stoi = {c: i + 1 for i, c in enumerate(chars)}
stoi["."] = 0
V, block = len(stoi), 3

X, Y = [], []
for w in names:
    ctx = [0] * block
    for ch in w + ".":
        X.append(ctx)
        Y.append(stoi[ch])
        ctx = ctx[1:] + [stoi[ch]]
X, Y = torch.tensor(X), torch.tensor(Y)

n_emb, n_h, depth = 10, 80, 4
C = torch.randn((V, n_emb), generator=g)
Ws, bs = [], []
fan = n_emb * block
for k in range(depth):
    Ws.append(torch.randn((fan, n_h), generator=g) * (5 / 3) / fan ** 0.5)
    bs.append(torch.zeros(n_h))
    fan = n_h
Wo = torch.randn((n_h, V), generator=g) * 0.01
bo = torch.zeros(V)
parameters = [C, Wo, bo] + Ws + bs
for p in parameters:
    p.requires_grad = True

for i in range(401):
    ix = torch.randint(0, X.shape[0], (64,), generator=g)
    h = C[X[ix]].view(-1, n_emb * block)
    for W, b in zip(Ws, bs):
        h = torch.tanh(h @ W + b)
    loss = F.cross_entropy(h @ Wo + bo, Y[ix])
    for p in parameters:
        p.grad = None
    loss.backward()
    lr = 0.2 if i < 300 else 0.02
    for p in parameters:
        p.data += -lr * p.grad
    if i % 100 == 0:
        print(f"{i:4d}/400: {loss.item():.4f}")
