"""Does the sequence contain more A than B? A small encoder with mean pooling."""
import torch
from torch import nn

torch.manual_seed(0)


class Encoder(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.embed = nn.Embedding(8, dim)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, 2, 32, dropout=0.0, batch_first=True, norm_first=True) for _ in range(2))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x):
        h = self.embed(x)
        for layer in self.layers:
            h = layer(h)
        return self.norm(h).mean(1)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.classifier = nn.Linear(16, 3)

    def forward(self, x):
        return self.classifier(self.encoder(x))


model = Model()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
loss_fn = nn.CrossEntropyLoss()
recent = 0.0
for step in range(1, 251):
    x = torch.randint(0, 8, (48, 12))
    a, b = (x == 0).sum(1), (x == 1).sum(1)
    y = 1 + (a > b).long() - (a < b).long()
    loss = loss_fn(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    recent += loss.item() / 25
    if step % 25 == 0:
        print(f"step {step} loss {recent:.4f}")
        recent = 0.0
