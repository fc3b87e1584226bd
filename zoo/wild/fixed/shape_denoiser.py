"""Image denoising on procedurally drawn shapes."""
from __future__ import annotations

import random

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset


class Shapes(Dataset):
    def __init__(self, count: int, size: int = 12, noise: float = 0.35, seed: int = 0):
        rnd = random.Random(seed)
        gen = torch.Generator().manual_seed(seed)
        self.clean = torch.zeros(count, 1, size, size)
        for i in range(count):
            for _ in range(rnd.randint(1, 3)):
                top, left = rnd.randint(0, size - 4), rnd.randint(0, size - 4)
                h, w = rnd.randint(2, 6), rnd.randint(2, 6)
                self.clean[i, 0, top:top + h, left:left + w] += rnd.uniform(-1, 1)
        self.noisy = self.clean + noise * torch.randn(self.clean.shape, generator=gen)

    def __len__(self) -> int:
        return len(self.clean)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        return self.noisy[i], self.clean[i]


class Denoiser(nn.Module):
    def __init__(self, channels: int = 8, n_layers: int = 24):
        super().__init__()
        self.head = nn.Conv2d(1, channels, 3, padding=1)
        self.body = nn.ModuleList([nn.Conv2d(channels, channels, 3, padding=1) for _ in range(n_layers)])
        self.tail = nn.Conv2d(channels, 1, 3, padding=1)
        for conv in [self.head, *self.body]:
            nn.init.xavier_normal_(conv.weight)
            nn.init.zeros_(conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.head(x))
        for conv in self.body:
            h = h + 0.2 * torch.relu(conv(h))
        return self.tail(h)


def evaluate(model: nn.Module, loader: DataLoader) -> float:
    model.eval()
    with torch.inference_mode():
        err = [nn.functional.mse_loss(model(a), b).item() for a, b in loader]
    model.train()
    return sum(err) / len(err)


def fit(model: nn.Module, train: DataLoader, val: DataLoader, epochs: int) -> None:
    opt = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for epoch in range(epochs):
        seen, acc = 0, 0.0
        for noisy, clean in train:
            loss = nn.functional.mse_loss(model(noisy), clean)
            opt.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            opt.step()
            acc += loss.item() * len(noisy)
            seen += len(noisy)
        print(f"epoch {epoch:2d} | train mse {acc / seen:.5f} | val mse {evaluate(model, val):.5f}")


if __name__ == "__main__":
    fit(Denoiser(), DataLoader(Shapes(512), 32, shuffle=True), DataLoader(Shapes(128, seed=1), 64), epochs=12)
