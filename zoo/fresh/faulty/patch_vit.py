"""A pre-norm vision transformer on digit patches, initialised by a function of its own."""
import torch
from sklearn.datasets import load_digits
from torch import nn


class ViT(nn.Module):
    def __init__(self, d=48, layers=4):
        super().__init__()
        self.embed = nn.Linear(4, d)
        self.pos = nn.Parameter(torch.zeros(16, d))
        layer = nn.TransformerEncoderLayer(d, 4, 96, dropout=0.0, batch_first=True, norm_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(d, 10)
        self.apply(self._init)

    @staticmethod
    def _init(module):
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=2.0)
            nn.init.zeros_(module.bias)

    def forward(self, images):
        patches = images.unfold(1, 2, 2).unfold(2, 2, 2).reshape(len(images), 16, 4)
        return self.head(self.encoder(self.embed(patches) + self.pos).mean(1))


torch.manual_seed(0)
d = load_digits()
x, y = torch.tensor(d.images).float() / 16, torch.tensor(d.target)
model = ViT()
opt = torch.optim.AdamW(model.parameters(), lr=1e-3)
for step in range(200):
    pick = torch.randint(0, len(x), (32,))
    loss = nn.functional.cross_entropy(model(x[pick]), y[pick])
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 40 == 0:
        print(step, round(loss.item(), 4))
