import torch
from sklearn.datasets import load_digits
from torch import nn, optim

torch.manual_seed(18)
pixels = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] * (255 / 16)


class Codec(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 8, 3, 2, 1))
        self.up = nn.Sequential(
            nn.ConvTranspose2d(8, 16, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(16, 1, 4, 2, 1)
        )

    def forward(self, img):
        return self.up(self.down(img / 128 - 1)) * 128 + 128


codec = Codec()
opt = optim.AdamW(codec.parameters(), lr=4e-3)
for epoch in range(10):
    total = 0.0
    for rows in torch.randperm(1600).split(32):
        out = codec(pixels[rows])
        loss = (out - pixels[rows]).pow(2).sum()
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item()
    print(f"epoch {epoch} summed error {total / 50:.0f}")
with torch.no_grad():
    held = pixels[1600:]
    print(f"rms error in grey levels {(codec(held) - held).pow(2).mean().sqrt().item():.2f}, spread of the pixels {held.std().item():.2f}")
