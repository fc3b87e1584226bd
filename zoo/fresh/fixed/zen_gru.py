"""A character-level GRU on the Zen of Python."""
import codecs
import contextlib
import io
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

with contextlib.redirect_stdout(io.StringIO()):
    import this


@dataclass
class Config:
    hidden: int = 64
    emb: int = 24
    block: int = 40
    batch: int = 16
    steps: int = 250
    learning_rate: float = 0.005
    clip: float = 5.0


class CharModel(nn.Module):
    def __init__(self, vocab, cfg):
        super().__init__()
        self.emb = nn.Embedding(vocab, cfg.emb)
        self.gru = nn.GRU(cfg.emb, cfg.hidden, batch_first=True)
        self.out = nn.Linear(cfg.hidden, vocab)

    def forward(self, idx):
        h, _ = self.gru(self.emb(idx))
        return self.out(h)


cfg = Config()
torch.manual_seed(0)
text = codecs.decode(this.s, "rot13")
chars = sorted(set(text))
ids = torch.tensor([chars.index(c) for c in text])
model = CharModel(len(chars), cfg)
optimizer = torch.optim.Adam(model.parameters(), lr=cfg.learning_rate)
for step in range(cfg.steps):
    start = torch.randint(0, len(ids) - cfg.block - 1, (cfg.batch,))
    xb = torch.stack([ids[s : s + cfg.block] for s in start])
    yb = torch.stack([ids[s + 1 : s + cfg.block + 1] for s in start])
    loss = F.cross_entropy(model(xb).flatten(0, 1), yb.flatten())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), cfg.clip)
    optimizer.step()
    if step % 50 == 0:
        print(step, round(loss.item(), 3))
print("final", round(loss.item(), 3))
