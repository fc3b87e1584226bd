"""Factorisation machine with a deep part for click prediction (a small DeepFM)."""
import numpy as np
import torch
from torch import nn

FIELDS = [30, 20, 12, 8]
OFFSETS = np.cumsum([0] + FIELDS[:-1])


def click_log(n, seed):
    rng = np.random.default_rng(1)
    emb = [rng.normal(0, 1, (f, 3)) for f in FIELDS]
    rng = np.random.default_rng(seed)
    ids = np.stack([rng.integers(0, f, n) for f in FIELDS], 1)
    score = -0.3 + sum((emb[a][ids[:, a]] * emb[b][ids[:, b]]).sum(1) for a in range(4) for b in range(a)) * 0.7
    y = rng.random(n) < 1 / (1 + np.exp(-score))
    return torch.tensor(ids + OFFSETS), torch.tensor(y, dtype=torch.float32)


class DeepFM(nn.Module):
    def __init__(self, k=8):
        super().__init__()
        total = sum(FIELDS)
        self.linear = nn.Embedding(total, 1)
        self.factors = nn.Embedding(total, k)
        nn.init.normal_(self.factors.weight, std=0.3)
        nn.init.zeros_(self.linear.weight)
        self.mlp = nn.Sequential(nn.Linear(k * len(FIELDS), 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, ids):
        v = self.factors(ids)
        pair = 0.5 * (v.sum(1).square() - v.square().sum(1)).sum(1)
        return self.linear(ids).sum((1, 2)) + pair + self.mlp(v.flatten(1)).squeeze(1)

    def l2(self):
        return sum(p.square().sum() for n, p in self.named_parameters() if not n.endswith("bias"))


def main(l2_reg=5e-2, lr=5e-3, epochs=10, batch=200):
    torch.manual_seed(0)
    ids, y = click_log(8000, seed=2)
    tids, ty = click_log(2000, seed=3)
    model = DeepFM()
    bce = nn.BCEWithLogitsLoss()
    opt = torch.optim.Adam(model.parameters(), lr=lr)
    for epoch in range(epochs):
        logloss = []
        for rows in torch.randperm(len(y)).split(batch):
            out = model(ids[rows])
            data_term = bce(out, y[rows])
            loss = data_term + l2_reg * model.l2()
            opt.zero_grad()
            loss.backward()
            opt.step()
            logloss.append(data_term.item())
        with torch.no_grad():
            test = bce(model(tids), ty).item()
        print(f"epoch {epoch + 1:2d} logloss {np.mean(logloss):.4f} test logloss {test:.4f}")


main()
