from dataclasses import dataclass, field
import random
import torch
from torch import nn


@dataclass
class Config:
    seed: int = 9
    vocab: int = 200
    dim: int = 32
    hidden: int = 48
    steps: int = 220
    batch: int = 32
    lr: float = 5e-3
    queues: list = field(default_factory=lambda: ["billing", "login", "shipping", "returns", "other"])


class TicketNet(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.bag = nn.EmbeddingBag(cfg.vocab, cfg.dim, mode="mean")
        self.ff = nn.Sequential(nn.Linear(cfg.dim, cfg.hidden), nn.ReLU(), nn.Linear(cfg.hidden, len(cfg.queues)))

    def forward(self, flat, offsets):
        return self.ff(self.bag(flat, offsets))


def draw(cfg, rng):
    flat, offsets, labels = [], [], []
    for _ in range(cfg.batch):
        label = rng.randrange(len(cfg.queues))
        offsets.append(len(flat))
        labels.append(label)
        for _ in range(rng.randint(8, 25)):
            topical = rng.random() < 0.35
            flat.append(label * 20 + rng.randrange(20) if topical else rng.randrange(100, cfg.vocab))
    return torch.tensor(flat), torch.tensor(offsets), torch.tensor(labels)


def main(cfg=Config()):
    torch.manual_seed(cfg.seed)
    rng = random.Random(cfg.seed)
    net = TicketNet(cfg)
    opt = torch.optim.AdamW(net.parameters(), lr=cfg.lr, weight_decay=0.01)
    sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=cfg.steps * 2)
    ce = nn.CrossEntropyLoss()
    recent = []
    for step in range(cfg.steps):
        flat, offsets, labels = draw(cfg, rng)
        loss = ce(net(flat, offsets), labels)
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step()
        recent = (recent + [loss.item()])[-25:]
        if (step + 1) % 44 == 0:
            print("step", step + 1, "mean loss", f"{sum(recent) / len(recent):.4f}")


main()
