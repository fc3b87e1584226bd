from dataclasses import dataclass

import torch
from torch import nn
import torch.nn.functional as F


@dataclass
class TrainConfig:
    base_lr: float = 0.5
    batch_size: int = 64
    reference_batch: int = 256
    steps: int = 260
    dim: int = 24
    depth: int = 3
    classes: int = 5

    @property
    def lr(self):
        return self.base_lr * self.batch_size / self.reference_batch


class Block(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dw = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, 2 * dim)
        self.down = nn.Linear(2 * dim, dim)

    def forward(self, x):
        h = self.dw(x).permute(0, 2, 3, 1)
        h = self.down(F.gelu(self.up(self.norm(h))))
        return x + h.permute(0, 3, 1, 2)


class ToyNeXt(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.stem = nn.Conv2d(1, cfg.dim, 2, stride=2)
        self.blocks = nn.Sequential(*[Block(cfg.dim) for _ in range(cfg.depth)])
        self.head = nn.Linear(cfg.dim, cfg.classes)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def textures(n, size=14):
    """Five kinds of stripes and checks with a random phase."""
    y, x = torch.meshgrid(torch.arange(size).float(), torch.arange(size).float(), indexing="ij")
    label = torch.randint(0, 5, (n,))
    ph = 6.28 * torch.rand(n, 1, 1)
    base = torch.stack([x, y, x + y, x - y, x * y / 4])[label]
    img = torch.sin(1.1 * base + ph) + 0.8 * torch.randn(n, size, size)
    return img.unsqueeze(1), label


class Trainer:
    def __init__(self, cfg):
        self.cfg = cfg
        self.model = ToyNeXt(cfg)
        self.opt = torch.optim.SGD(self.model.parameters(), lr=cfg.lr, momentum=0.9, nesterov=True)
        self.sched = torch.optim.lr_scheduler.CosineAnnealingLR(self.opt, cfg.steps)

    def fit(self):
        for step in range(self.cfg.steps):
            x, y = textures(self.cfg.batch_size)
            loss = F.cross_entropy(self.model(x), y, label_smoothing=0.05)
            self.opt.zero_grad()
            loss.backward()
            self.opt.step()
            self.sched.step()
            if (step + 1) % 40 == 0:
                print(f"step={step + 1} lr={self.sched.get_last_lr()[0]:.2e} loss={loss.item():.4f}")

    @torch.no_grad()
    def test(self):
        x, y = textures(500)
        return (self.model(x).argmax(1) == y).float().mean().item()


if __name__ == "__main__":
    torch.manual_seed(3407)
    t = Trainer(TrainConfig())
    t.fit()
    print(f"test accuracy {t.test():.3f}")
