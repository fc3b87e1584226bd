"""A language model with Adam whose clip is active at every single step."""
import inspect
import textwrap

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

torch.manual_seed(0)
text = inspect.getsource(textwrap)[:8000]
vocab = sorted(set(text))
ids = torch.tensor([vocab.index(c) for c in text])


class LM(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(len(vocab), 32)
        self.lstm = nn.LSTM(32, 64, batch_first=True)
        self.out = nn.Linear(64, len(vocab))

    def forward(self, x):
        return self.out(self.lstm(self.emb(x))[0])


lm = LM()
opt = torch.optim.Adam(lm.parameters(), lr=5e-3)
for step in range(250):
    s = torch.randint(0, len(ids) - 33, (16,))
    x = torch.stack([ids[i : i + 32] for i in s])
    y = torch.stack([ids[i + 1 : i + 33] for i in s])
    loss = nn.functional.cross_entropy(lm(x).flatten(0, 1), y.flatten())
    opt.zero_grad()
    loss.backward()
    clip_grad_norm_(lm.parameters(), 0.05)
    opt.step()
    if step % 50 == 0:
        print(step, loss.item())
