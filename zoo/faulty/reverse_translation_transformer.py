"""Learn to reverse a sequence of tokens with a transformer encoder."""
import torch
from torch import nn

torch.manual_seed(0)
VOCAB, LENGTH, STEPS = 12, 8, 180


class Reverser(nn.Module):
    def __init__(self, dim=32, layers=8):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, dim)
        self.pos = nn.Parameter(torch.randn(LENGTH, dim) * 0.5)
        layer = nn.TransformerEncoderLayer(dim, 4, 64, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers)
        self.out = nn.Linear(dim, VOCAB)

    def forward(self, x):
        return self.out(self.encoder(self.embed(x) + self.pos))


model = Reverser()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: 1.0)
loss_fn = nn.CrossEntropyLoss()
for step in range(STEPS):
    src = torch.randint(0, VOCAB, (32, LENGTH))
    loss = loss_fn(model(src).transpose(1, 2), src.flip(1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
    if step % 20 == 0 or step == STEPS - 1:
        print(f"step {step} loss {loss.item():.4f} lr {scheduler.get_last_lr()[0]:.1e}")
