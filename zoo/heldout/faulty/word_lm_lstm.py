"""Word-level language model, derived from pytorch/examples word_language_model."""
import math
import torch
import torch.nn as nn

torch.manual_seed(1111)
V, BPTT, BSZ = 30, 16, 20
P = torch.softmax(3.0 * torch.randn(V, V), 1)
stream = torch.zeros(BSZ, 1700, dtype=torch.long)
for t in range(1, 1700):
    stream[:, t] = torch.multinomial(P[stream[:, t - 1]], 1).squeeze(1)


class RNNModel(nn.Module):
    def __init__(self, ninp=32, nhid=48):
        super().__init__()
        self.encoder = nn.Embedding(V, ninp)
        self.rnn = nn.LSTM(ninp, nhid, batch_first=True)
        self.drop = nn.Dropout(0.1)
        self.decoder = nn.Linear(nhid, V)
        nn.init.uniform_(self.encoder.weight, -0.5, 0.5)

    def forward(self, x, hidden):
        o, hidden = self.rnn(self.drop(self.encoder(x)), hidden)
        return self.decoder(self.drop(o)), hidden


def repackage(h):
    return tuple(v.detach() for v in h)


model = RNNModel()
criterion = nn.CrossEntropyLoss()
lr, clip = 10.0, 0.002
hidden, total = (torch.zeros(1, BSZ, 48), torch.zeros(1, BSZ, 48)), 0.0
for batch, i in enumerate(range(0, 1680, BPTT), 1):
    data, targets = stream[:, i:i + BPTT], stream[:, i + 1:i + 1 + BPTT]
    model.zero_grad()
    hidden = repackage(hidden)
    output, hidden = model(data, hidden)
    loss = criterion(output.reshape(-1, V), targets.reshape(-1))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    for p in model.parameters():
        p.data.add_(p.grad, alpha=-lr)
    total += loss.item()
    if batch % 15 == 0:
        print("| %3d batches | lr %.1f | loss %.4f | ppl %.2f" % (batch, lr, total / 15, math.exp(total / 15)))
        total = 0.0
