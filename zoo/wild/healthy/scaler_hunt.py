"""Mixed precision loop with a gradient scaler."""
import torch
from torch import nn
from torch.amp import GradScaler, autocast


class SpiralNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(2, 64)
        self.fc2 = nn.Linear(64, 64)
        self.fc3 = nn.Linear(64, 2)

    def forward(self, x):
        x = torch.relu(self.fc1(x))
        x = torch.relu(self.fc2(x))
        return self.fc3(x)


def two_spirals(n):
    t = torch.rand(n).sqrt() * 9
    lab = torch.randint(0, 2, (n,))
    ang = t + lab * 3.14159
    return torch.stack([t * ang.cos(), t * ang.sin()], 1) / 5 + 0.03 * torch.randn(n, 2), lab


def main():
    torch.manual_seed(58)
    model = SpiralNet()
    opt = torch.optim.Adam(model.parameters(), lr=5e-3)
    scaler = GradScaler("cpu", init_scale=2.0 ** 24, growth_interval=100)
    x, y = two_spirals(2000)
    xt, yt = two_spirals(500)
    skipped = 0
    for step in range(1, 701):
        rows = torch.randint(0, len(x), (100,))
        opt.zero_grad()
        with autocast("cpu", dtype=torch.float16):
            loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        before = scaler.get_scale()
        scaler.scale(loss).backward()
        scaler.unscale_(opt)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(opt)
        scaler.update()
        skipped += int(scaler.get_scale() < before)
        if step % 70 == 0:
            with torch.no_grad():
                acc = (model(xt).argmax(1) == yt).float().mean().item()
            print(f"step {step} loss {loss.item():.4f} scale {scaler.get_scale():.0f} skipped {skipped} acc {acc:.4f}")


main()
