from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import nn


@dataclass
class TrainConfig:
    lr: float = 0.05
    momentum: float = 0.9
    grad_clip: float = 0.5
    batch: int = 64
    epochs: int = 7
    seed: int = 15


class ResBlock(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.a, self.b = nn.Conv2d(c, c, 3, padding=1), nn.Conv2d(c, c, 3, padding=1)
        self.n1, self.n2 = nn.GroupNorm(4, c), nn.GroupNorm(4, c)

    def forward(self, x):
        return torch.relu(x + self.n2(self.b(torch.relu(self.n1(self.a(x))))))


class Trainer:
    def __init__(self, cfg):
        self.cfg = cfg
        torch.manual_seed(cfg.seed)
        data = load_digits()
        self.x = torch.tensor(data.images / 8 - 1, dtype=torch.float32)[:, None]
        self.y = torch.tensor(data.target)
        self.model = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), ResBlock(16), nn.MaxPool2d(2), ResBlock(16), nn.Flatten(), nn.Linear(256, 10)
        )
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=cfg.lr, momentum=cfg.momentum)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, cfg.epochs)

    def training_step(self, rows):
        loss = nn.functional.cross_entropy(self.model(self.x[rows]), self.y[rows])
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_value_(self.model.parameters(), self.cfg.grad_clip)
        self.optimizer.step()
        return loss.item()

    def fit(self):
        for epoch in range(self.cfg.epochs):
            losses = [self.training_step(r) for r in torch.randperm(1500).split(self.cfg.batch)]
            self.scheduler.step()
            print(f"epoch {epoch}: {sum(losses) / len(losses):.4f}")

    @torch.no_grad()
    def test(self):
        return (self.model(self.x[1500:]).argmax(1) == self.y[1500:]).float().mean().item()


trainer = Trainer(TrainConfig())
trainer.fit()
print(f"test accuracy {trainer.test():.3f}")
