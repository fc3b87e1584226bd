"""Writes a symbol string backwards with a transformer encoder."""
import torch
from torch import nn

VOCAB, LENGTH, DIM, LR = 10, 12, 48, 8e-3


class Reverser(nn.Module):
    def __init__(self, layers=6):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, DIM)
        self.position = nn.Parameter(torch.randn(LENGTH, DIM) * 0.3)
        layer = nn.TransformerEncoderLayer(DIM, 4, 2 * DIM, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers)
        self.head = nn.Linear(DIM, VOCAB)

    def forward(self, x):
        return self.head(self.encoder(self.embed(x) + self.position))


torch.manual_seed(0)
model = Reverser()
optimizer = torch.optim.Adam(model.parameters(), lr=LR)
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: 1.0)
recent = []
for step in range(1, 301):
    x = torch.randint(0, VOCAB, (24, LENGTH))
    loss = nn.functional.cross_entropy(model(x).reshape(-1, VOCAB), x.flip(1).reshape(-1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
    recent.append(loss.item())
    if step % 50 == 0:
        print(f"step {step} loss {sum(recent[-20:]) / 20:.4f}")
