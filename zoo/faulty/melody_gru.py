"""Next-note prediction for a simple melody."""
import torch
from torch import nn

torch.manual_seed(0)
TUNE = "C D E F G G A A A A G A A A A G F F F F E E D D D D C C D E F G A B c c B A G F E D C C E G c G E C"
notes = TUNE.split() * 4
names = sorted(set(notes))
seq = torch.tensor([names.index(n) for n in notes])


class Melody(nn.Module):
    def __init__(self, n, dim=16, hidden=32):
        super().__init__()
        self.embed = nn.Embedding(n, dim)
        self.gru = nn.GRU(dim, hidden, batch_first=True)
        self.out = nn.Linear(hidden, n)

    def forward(self, x):
        return self.out(self.gru(self.embed(x))[0])


model = Melody(len(names))
matrices = [p for p in model.parameters() if p.dim() > 1]
vectors = [p for p in model.parameters() if p.dim() == 1]
optimizer = torch.optim.Adam([
    {"params": matrices, "weight_decay": 1.0},
    {"params": vectors, "weight_decay": 0.0},
], lr=5e-3)
criterion = nn.CrossEntropyLoss()
for step in range(250):
    s = torch.randint(0, len(seq) - 17, (16,))
    chunk = torch.stack([seq[i:i + 17] for i in s])
    loss = criterion(model(chunk[:, :-1]).flatten(0, 1), chunk[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 25 == 0 or step == 249:
        print(f"step {step} loss {loss.item():.4f}")
