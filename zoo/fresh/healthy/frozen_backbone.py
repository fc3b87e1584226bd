"""Transfer: a trained backbone is frozen, only a new head learns, with a small rate at the end."""
import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
d = load_digits()
x, y = torch.tensor(d.images).float().unsqueeze(1) / 16, torch.tensor(d.target)
backbone = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(192, 32), nn.ReLU())
parity = nn.Linear(32, 2)


def fit(head, params, target, steps, lr):
    opt = torch.optim.Adam(params, lr=lr)
    for _ in range(steps):
        pick = torch.randint(0, len(x), (48,))
        loss = nn.functional.cross_entropy(head(backbone(x[pick])), target[pick])
        opt.zero_grad()
        loss.backward()
        opt.step()
    return loss.item()


print(fit(parity, [*backbone.parameters(), *parity.parameters()], y % 2, 150, 3e-3))
backbone.requires_grad_(False).eval()
digit = nn.Linear(32, 10)
print(fit(digit, digit.parameters(), y, 200, 1e-2))
