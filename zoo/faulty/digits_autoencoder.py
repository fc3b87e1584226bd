"""Compress 8x8 digit images to a 12-number code."""
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(11)


class AutoEncoder(nn.Module):
    def __init__(self, widths=(64, 56, 48, 40, 12)):
        super().__init__()
        self.enc = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths[:-1], widths[1:]))
        back = widths[::-1]
        self.dec = nn.ModuleList(nn.Linear(a, b) for a, b in zip(back[:-1], back[1:]))
        for m in [*self.enc, *self.dec]:
            nn.init.xavier_uniform_(m.weight)
            nn.init.zeros_(m.bias)

    def act(self, h):
        return torch.sigmoid(h)

    def forward(self, x):
        for layer in self.enc:
            x = self.act(layer(x))
        for layer in self.dec[:-1]:
            x = self.act(layer(x))
        return self.dec[-1](x)


images = torch.tensor(load_digits().data, dtype=torch.float32) / 16
images = (images - images.mean()) / images.std()
model = AutoEncoder()
opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

for step in range(400):
    batch = images[torch.randint(0, len(images), (64,))]
    loss = F.mse_loss(model(batch), batch)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 40 == 0 or step == 399:
        print(f"step {step} reconstruction loss {loss.item():.4f}")
