import torch
from torch import nn

torch.manual_seed(0)
text = (
    "the quick brown fox jumps over the lazy dog while the five boxing wizards jump quickly and "
    "pack my box with five dozen liquor jugs how vexingly quick daft zebras jump over the bright "
    "vixens sphinx of black quartz judge my vow and the jay pig fox zebra and my wolves quack "
) * 2
vocab = sorted(set(text))
ids = torch.tensor([vocab.index(c) for c in text])


class CharModel(nn.Module):
    def __init__(self, n, emb=24, hidden=64):
        super().__init__()
        self.embed = nn.Embedding(n, emb)
        self.gru = nn.GRU(emb, hidden, num_layers=2, batch_first=True)
        self.decoder = nn.Linear(hidden, n)

    def forward(self, x):
        h, _ = self.gru(self.embed(x))
        return self.decoder(h)


model = CharModel(len(vocab))
optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
criterion = nn.CrossEntropyLoss()

for step in range(150):
    starts = torch.randint(0, len(ids) - 26, (24,))
    window = torch.stack([ids[s:s + 26] for s in starts])
    logits = model(window[:, :-1])
    loss = criterion(logits.reshape(-1, len(vocab)), window[:, 1:].reshape(-1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 15 == 0 or step == 149:
        print(f"step {step:3d}  loss {loss.item():.3f}")
