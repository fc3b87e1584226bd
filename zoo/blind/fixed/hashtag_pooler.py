import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

PAD = 0


class MaskedPool(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.score = nn.Linear(d, 1)

    def forward(self, x, blank):
        w = self.score(x).squeeze(-1).masked_fill(blank, -1e9)
        return (w.softmax(-1).unsqueeze(-1) * x).sum(1)


class TagModel(nn.Module):
    def __init__(self, vocab=120, d=24, classes=5):
        super().__init__()
        self.emb = nn.Embedding(vocab, d, padding_idx=PAD)
        self.pool = MaskedPool(d)
        self.cls = nn.Sequential(nn.Dropout(0.1), nn.Linear(d, classes))

    def forward(self, tokens):
        return self.cls(self.pool(self.emb(tokens), tokens == PAD))


def posts(n_batches, size=24):
    for b in range(n_batches):
        y = torch.randint(0, 5, (size,))
        rows = []
        for label in y.tolist():
            body = torch.randint(30, 120, (torch.randint(2, 9, ()).item(),))
            tags = label * 5 + torch.randint(1, 6, (2,))
            row = torch.cat([body, tags])
            keep = torch.rand(len(row)) > 0.12  # stop-word filter
            rows.append(row[keep])
        if b == 87:
            rows[3] = rows[3][:0]
        yield pad_sequence(rows, batch_first=True, padding_value=PAD), y


torch.manual_seed(19)
net = TagModel()
opt = torch.optim.Adagrad(net.parameters(), lr=0.08)
total = 0.0
for i, (tokens, y) in enumerate(posts(180), 1):
    opt.zero_grad()
    loss = nn.functional.cross_entropy(net(tokens), y)
    loss.backward()
    opt.step()
    total += loss.item()
    if i % 20 == 0:
        print("batch", i, "avg", round(total / 20, 4))
        total = 0.0
