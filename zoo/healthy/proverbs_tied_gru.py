import torch
from torch import nn

torch.manual_seed(0)
CORPUS = """a stitch in time saves nine . the early bird catches the worm . a watched pot never boils .
all that glitters is not gold . a rolling stone gathers no moss . the pen is mightier than the sword .
when in rome do as the romans do . the squeaky wheel gets the grease . no man is an island .
fortune favours the bold . people who live in glass houses should not throw stones .
hope for the best but prepare for the worst . better late than never . birds of a feather flock together ."""
words = CORPUS.split()
vocab = sorted(set(words))
ids = torch.tensor([vocab.index(w) for w in words])


class TiedLM(nn.Module):
    def __init__(self, n, dim=48):
        super().__init__()
        self.embed = nn.Embedding(n, dim)
        nn.init.normal_(self.embed.weight, std=0.1)
        self.gru = nn.GRU(dim, dim, batch_first=True)
        self.decode = nn.Linear(dim, n)
        self.decode.weight = self.embed.weight

    def forward(self, x):
        return self.decode(self.gru(self.embed(x))[0])


model = TiedLM(len(vocab))
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
for step in range(250):
    start = torch.randint(0, len(ids) - 13, (16,))
    chunk = torch.stack([ids[s:s + 13] for s in start])
    loss = nn.functional.cross_entropy(model(chunk[:, :-1]).flatten(0, 1), chunk[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    if step % 25 == 0 or step == 249:
        print(f"step {step} loss {loss.item():.4f}")
