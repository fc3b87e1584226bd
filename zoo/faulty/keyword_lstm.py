"""Find out which of four keywords occurred in a stream of tokens."""
import contextlib

import torch
from torch import nn

torch.manual_seed(0)


class KeywordSpotter(nn.Module):
    def __init__(self, vocab=30, emb=12, hidden=24):
        super().__init__()
        self.embed = nn.Embedding(vocab, emb)
        self.lstm = nn.LSTM(emb, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, 4)

    def encode(self, tokens):
        with torch.no_grad():
            out, (h, c) = self.lstm(self.embed(tokens))
            return h[-1]

    def forward(self, tokens):
        return self.fc(self.encode(tokens))


def sample(n=48, length=14):
    tokens = torch.randint(4, 30, (n, length))
    label = torch.randint(0, 4, (n,))
    where = torch.randint(0, length, (n,))
    tokens[torch.arange(n), where] = label
    return tokens, label


model = KeywordSpotter()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
criterion = nn.CrossEntropyLoss()
mean = 0.0
for step in range(1, 301):
    x, y = sample()
    loss = criterion(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    mean += loss.item() / 30
    if step % 30 == 0:
        print(f"step {step} loss {mean:.4f}")
        mean = 0.0
