import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.optim.lr_scheduler import LinearLR, SequentialLR, CosineAnnealingLR


class Hyper:
    patch = 2
    dim = 64
    heads = 4
    layers = 6
    peak_lr = 3e-3
    total_steps = 260
    warmup_steps = 100
    batch = 64


class DigitViT(nn.Module):
    def __init__(self, hp):
        super().__init__()
        n = (8 // hp.patch) ** 2
        self.patch = hp.patch
        self.embed = nn.Linear(hp.patch ** 2, hp.dim)
        self.cls = nn.Parameter(torch.zeros(1, 1, hp.dim))
        self.pos = nn.Parameter(0.02 * torch.randn(1, n + 1, hp.dim))
        layer = nn.TransformerEncoderLayer(hp.dim, hp.heads, 2 * hp.dim, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, hp.layers)
        self.head = nn.Linear(hp.dim, 10)

    def forward(self, img):
        p = img.unfold(1, self.patch, self.patch).unfold(2, self.patch, self.patch)
        x = self.embed(p.flatten(3).flatten(1, 2))
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.pos
        return self.head(self.encoder(x)[:, 0])


def schedule(opt, hp):
    up = LinearLR(opt, start_factor=1.0 / hp.warmup_steps, total_iters=hp.warmup_steps)
    down = CosineAnnealingLR(opt, hp.total_steps - hp.warmup_steps)
    return SequentialLR(opt, [up, down], milestones=[hp.warmup_steps])


def loader(x, y, batch, rng):
    while True:
        order = rng.permutation(len(x))
        for i in range(0, len(order) - batch + 1, batch):
            yield x[order[i:i + batch]], y[order[i:i + batch]]


def main():
    hp = Hyper()
    torch.manual_seed(6)
    rng = np.random.default_rng(6)
    d = load_digits()
    x = torch.tensor(d.images / 8 - 1, dtype=torch.float32)
    y = torch.tensor(d.target)
    stream = loader(x[:1500], y[:1500], hp.batch, rng)
    model = DigitViT(hp)
    opt = torch.optim.Adam(model.parameters(), lr=hp.peak_lr)
    sched = schedule(opt, hp)
    window = []
    for step in range(hp.total_steps):
        bx, by = next(stream)
        loss = nn.functional.cross_entropy(model(bx), by)
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step()
        window.append(loss.item())
        if step % 30 == 29:
            print(f"step {step + 1:3d} lr {sched.get_last_lr()[0]:.5f} loss {np.mean(window[-30:]):.4f}")
    model.eval()
    with torch.no_grad():
        out = model(x[1500:])
    print(f"test loss {nn.functional.cross_entropy(out, y[1500:]).item():.4f} acc {(out.argmax(1) == y[1500:]).float().mean().item():.4f}")


main()
