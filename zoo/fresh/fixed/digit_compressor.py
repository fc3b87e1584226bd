"""Convolutional autoencoder for 8x8 digits, configured by a dict."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits

CONFIG = {
    "model": {"channels": 16, "latent": 12},
    "optim": {"name": "AdamW", "lr": 2e-3, "weight_decay": 0.01},
    "train": {"steps": 300, "batch_size": 64},
}


class Encoder(nn.Module):
    def __init__(self, channels, latent):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, channels, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(8 * channels, latent),
        )

    def forward(self, x):
        return self.net(x)


class Decoder(nn.Module):
    def __init__(self, channels, latent):
        super().__init__()
        self.channels = channels
        self.expand = nn.Linear(latent, 8 * channels)
        self.up = nn.Sequential(
            nn.GELU(),
            nn.ConvTranspose2d(2 * channels, channels, 2, stride=2),
            nn.GELU(),
            nn.ConvTranspose2d(channels, 1, 2, stride=2),
        )

    def forward(self, z):
        return self.up(self.expand(z).view(-1, 2 * self.channels, 2, 2))


def batches(x, size, steps, gen):
    for _ in range(steps):
        yield x[torch.randint(0, len(x), (size,), generator=gen)]


def build_optimizer(params, spec):
    kwargs = {k: v for k, v in spec.items() if k != "name"}
    return getattr(torch.optim, spec["name"])(params, **kwargs)


torch.manual_seed(1)
images = torch.tensor(load_digits().images, dtype=torch.float32).unsqueeze(1) / 16
enc, dec = Encoder(**CONFIG["model"]), Decoder(**CONFIG["model"])
opt = build_optimizer([*enc.parameters(), *dec.parameters()], CONFIG["optim"])
train = CONFIG["train"]
gen = torch.Generator().manual_seed(1)
for i, xb in enumerate(batches(images, train["batch_size"], train["steps"], gen)):
    loss = nn.functional.mse_loss(dec(enc(xb)), xb)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if i % 60 == 0:
        print(f"{i:4d} {loss.item():.5f}")
