import torch
from torch import nn
import torch.nn.functional as F


MISSING = -99999.0


def read_log(n=1024, length=32, seed=4):
    """Imitates the export of our vibration logger."""
    g = torch.Generator().manual_seed(seed)
    kind = torch.randint(0, 3, (n,), generator=g)
    t = torch.arange(length).float()
    freq = torch.tensor([0.3, 0.7, 1.3])[kind].unsqueeze(1)
    phase = 6.28 * torch.rand(n, 1, generator=g)
    x = torch.sin(freq * t + phase) + 0.4 * torch.randn(n, length, generator=g)
    x[n // 3, 11:19] = MISSING
    return x.unsqueeze(1), kind


class VibrationNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv1d(1, 16, 7, padding=3)
        self.conv2 = nn.Conv1d(16, 32, 5, stride=2, padding=2)
        self.fc = nn.Linear(32, 3)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(self.conv2(x))
        return self.fc(x.amax(-1))


def train(model, x, y, steps, batch=32):
    opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    g = torch.Generator().manual_seed(8)
    order = torch.randperm(len(x), generator=g)
    pos = 0
    for step in range(steps):
        if pos + batch > len(order):
            order, pos = torch.randperm(len(x), generator=g), 0
        rows = order[pos:pos + batch]
        pos += batch
        loss = F.cross_entropy(model(x[rows]), y[rows])
        opt.zero_grad()
        loss.backward()
        opt.step()
        if step % 25 == 24:
            print(f"step {step + 1} loss {loss.item():.4f}")


def main():
    torch.manual_seed(4)
    x, y = read_log()
    model = VibrationNet()
    train(model, x[:896], y[:896], 200)
    with torch.no_grad():
        logits = model(x[896:])
    print(f"test loss {F.cross_entropy(logits, y[896:]).item():.4f} acc {(logits.argmax(1) == y[896:]).float().mean().item():.3f}")


if __name__ == "__main__":
    main()
