"""Character tagging with bucketed batches and a bidirectional LSTM."""
import random

import torch
import torch.nn as nn
from torch.nn.utils.rnn import pad_sequence, pack_padded_sequence, pad_packed_sequence

TOKENS_PER_BATCH = 300


def sentence(rnd):
    n = rnd.choice([rnd.randint(5, 10), rnd.randint(10, 25), rnd.randint(40, 60)])
    s = [rnd.randint(1, 14) for _ in range(n)]
    depth, tags = 0, []
    for c in s:
        if c == 1:
            depth = min(depth + 1, 2)
        elif c == 2:
            depth = max(depth - 1, 0)
        tags.append(depth)
    return torch.tensor(s), torch.tensor(tags)


def buckets(data, rnd):
    data = sorted(data, key=lambda p: len(p[0]))
    out, cur = [], []
    for pair in data:
        if cur and (len(cur) + 1) * len(pair[0]) > TOKENS_PER_BATCH:
            out.append(cur)
            cur = []
        cur.append(pair)
    out.append(cur)
    rnd.shuffle(out)
    return out


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(15, 12, padding_idx=0)
        self.lstm = nn.LSTM(12, 24, batch_first=True, bidirectional=True)
        self.out = nn.Linear(48, 3)

    def forward(self, x, lengths):
        packed = pack_padded_sequence(self.emb(x), lengths, batch_first=True, enforce_sorted=False)
        h, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.out(h)


def run(model, batches, loss_fn, opt=None):
    total = right = count = 0
    for b in batches:
        lengths = torch.tensor([len(s) for s, _ in b])
        x = pad_sequence([s for s, _ in b], batch_first=True)
        y = pad_sequence([t for _, t in b], batch_first=True, padding_value=-100)
        logits = model(x, lengths)
        loss = loss_fn(logits.flatten(0, 1), y.flatten())
        if opt:
            opt.zero_grad()
            loss.backward()
            opt.step()
        mask = y >= 0
        total += loss.item() * mask.sum().item()
        right += (logits.argmax(-1)[mask] == y[mask]).sum().item()
        count += mask.sum().item()
    return total / count, right / count


if __name__ == "__main__":
    rnd = random.Random(8)
    torch.manual_seed(8)
    train, test = [sentence(rnd) for _ in range(500)], [sentence(rnd) for _ in range(100)]
    model, loss_fn = Tagger(), nn.CrossEntropyLoss()
    opt = torch.optim.Adam(model.parameters(), lr=1e-2)
    for epoch in range(8):
        tr = run(model, buckets(train, rnd), loss_fn, opt)
        with torch.no_grad():
            te = run(model, buckets(test, rnd), loss_fn)
        print(f"epoch {epoch + 1}: train {tr[0]:.4f} {tr[1]:.4f} | test {te[0]:.4f} {te[1]:.4f}")
