"""CTC line reader on rendered digit strips (7-segment font)."""
import random

import torch
from torch import nn

FONT = ["1110111", "0010010", "1011101", "1011011", "0111010", "1101011", "1101111", "1010010", "1111111", "1111011"]


def glyph(d):
    s = FONT[d]
    g = torch.zeros(7, 5)
    for on, (r, c) in zip(s, [(0, slice(1, 4)), (slice(1, 3), 0), (slice(1, 3), 4), (3, slice(1, 4)), (slice(4, 6), 0), (slice(4, 6), 4), (6, slice(1, 4))]):
        if on == "1":
            g[r, c] = 1.0
    return g


def strip(rnd, width=20):
    digits = [rnd.randrange(10) for _ in range(rnd.randint(1, 2))]
    img, pos = torch.zeros(7, width), rnd.randint(0, 3)
    for d in digits:
        img[:, pos:pos + 5] = glyph(d)
        pos += 5 + rnd.randint(2, 3)
    return img + 0.15 * torch.randn(7, width), digits


class Reader(nn.Module):
    def __init__(self, h=48):
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv1d(7, 32, 5, padding=2), nn.ReLU(), nn.Conv1d(32, 16, 3, padding=1), nn.ReLU())
        self.rnn = nn.GRU(16, h, bidirectional=True, batch_first=True)
        self.ctc_head = nn.Linear(2 * h, 11)

    def forward(self, img):
        f = self.backbone(img).transpose(1, 2)
        return self.ctc_head(self.rnn(f)[0]).log_softmax(-1)


def param_groups(model, lr):
    groups = {"backbone": [], "rnn": [], "ctc_head": []}
    for name, p in model.named_parameters():
        prefix = name.split(".")[0]
        if prefix in groups:
            groups[prefix].append(p)
    return [{"params": ps, "lr": lr if k == "ctc_head" else lr * 0.5} for k, ps in groups.items() if ps]


def batch(rnd, n):
    imgs, texts = zip(*[strip(rnd) for _ in range(n)])
    return torch.stack(imgs), torch.tensor(sum(texts, [])) + 1, torch.tensor([len(t) for t in texts]), texts


def greedy(logp):
    out = []
    for row in logp.argmax(-1).tolist():
        out.append([k - 1 for i, k in enumerate(row) if k and (i == 0 or row[i - 1] != k)])
    return out


torch.manual_seed(5)
rnd = random.Random(5)
model = Reader()
opt = torch.optim.Adam(param_groups(model, 1e-2))
ctc = nn.CTCLoss()
for it in range(1, 601):
    img, target, lengths, _ = batch(rnd, 16)
    logp = model(img)
    loss = ctc(logp.transpose(0, 1), target, torch.full((16,), logp.size(1)), lengths)
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    opt.step()
    if it % 40 == 0:
        print(f"iteration {it} ctc loss {loss.item():.4f}")
with torch.no_grad():
    img, _, _, texts = batch(rnd, 100)
    exact = sum(a == list(b) for a, b in zip(greedy(model(img)), texts))
print(f"exact strings: {exact} of 100")
