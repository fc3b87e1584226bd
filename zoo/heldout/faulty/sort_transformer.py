"""Attention is all you need, small: learn to sort digits (encoder only, per-position classification)."""
import torch
import torch.nn as nn

torch.manual_seed(0)
V, L, D, LAYERS = 10, 10, 32, 8


class SortNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok = nn.Embedding(V, D)
        self.pos = nn.Parameter(torch.randn(1, L, D) * 0.1)
        layer = nn.TransformerEncoderLayer(D, 4, 96, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.fc = nn.Linear(D, V)
        for p in self.encoder.parameters():
            if p.dim() > 1:
                nn.init.xavier_uniform_(p)

    def forward(self, x):
        return self.fc(self.encoder(self.tok(x) + self.pos))


model = SortNet()
BASE_LR = 6e-3
optimizer = torch.optim.Adam(model.parameters(), lr=BASE_LR, betas=(0.9, 0.98), eps=1e-9)


def lr_at(step):
    return 1.0 if step < 150 else (150 / step) ** 0.5


scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lr_at)
criterion = nn.CrossEntropyLoss()
for step in range(1, 201):
    x = torch.randint(0, V, (24, L))
    y = x.sort(1).values
    loss = criterion(model(x).flatten(0, 1), y.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
    if step % 25 == 0 or step == 1:
        print(f"step {step:4d} loss {loss.item():.4f}")
