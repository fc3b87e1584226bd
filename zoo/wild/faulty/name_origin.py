"""Surname-like string classification with a GRU over characters (three invented languages)."""
import random
import string

import torch
import torch.nn as nn
import torch.nn.functional as F

ALPHABET = string.ascii_lowercase
SYLLABLES = {
    "norl": ["sk", "ul", "fjo", "rn", "ei", "gar", "vik", "tho", "ha"],
    "velan": ["ma", "ri", "cello", "do", "lu", "ca", "tti", "vio", "ha"],
    "kezh": ["zhe", "kov", "ul", "ska", "tch", "bri", "ov", "ma", "gar"],
}
LANGS = sorted(SYLLABLES)


def make_name(rnd, lang):
    return "".join(rnd.choice(SYLLABLES[lang]) for _ in range(rnd.randint(2, 4)))


def encode(names):
    longest = max(map(len, names))
    out = torch.zeros(len(names), longest, dtype=torch.long)
    for i, name in enumerate(names):
        out[i, -len(name):] = torch.tensor([ALPHABET.index(c) + 1 for c in name])
    return out


class NameNet(nn.Module):
    def __init__(self, h=32):
        super().__init__()
        self.emb = nn.Embedding(27, 16, padding_idx=0)
        self.gru = nn.GRU(16, h, batch_first=True)
        self.classify = nn.Linear(h, len(LANGS))

    def forward(self, x):
        _, h = self.gru(self.emb(x))
        return F.softmax(self.classify(h[0]), dim=-1)


def batch(rnd, n):
    ys = [rnd.randrange(3) for _ in range(n)]
    return encode([make_name(rnd, LANGS[y]) for y in ys]), torch.tensor(ys)


def main():
    rnd = random.Random(15)
    torch.manual_seed(15)
    net = NameNet()
    opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    x_test, y_test = batch(rnd, 600)
    total = 0.0
    for it in range(1, 301):
        x, y = batch(rnd, 32)
        loss = F.nll_loss(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item()
        if it % 50 == 0:
            with torch.no_grad():
                out = net(x_test)
            top = out.max(1)
            probs = out if out.min() >= 0 else out.exp()
            ce = F.nll_loss(probs.clamp_min(1e-9).log(), y_test).item()
            print(f"{it} avg loss {total / 50:.4f} test acc {(top.indices == y_test).float().mean().item():.4f} cross entropy {ce:.4f}")
            total = 0.0


if __name__ == "__main__":
    main()
