import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser(description="pixel-wise flood segmentation")
parser.add_argument("--epochs", type=int, default=6)
parser.add_argument("--lr", type=float, default=0.05)
parser.add_argument("--seed", type=int, default=71)
args = parser.parse_args()
torch.manual_seed(args.seed)


def terrain(n, size=16):
    g = torch.linspace(-1, 1, size)
    coef = torch.randn(n, 6)
    yy, xx = torch.meshgrid(g, g, indexing="ij")
    basis = torch.stack([xx, yy, xx * yy, torch.sin(3 * xx), torch.cos(3 * yy), xx**2 - yy**2])
    height = torch.einsum("nk,khw->nhw", coef, basis)
    gauge = torch.randn(n, 1, 1) * 0.5
    flooded = (height < gauge).float()
    image = torch.stack([height + 0.1 * torch.randn_like(height), gauge.expand_as(height)], 1)
    return image, flooded[:, None]


net = nn.Sequential(
    nn.Conv2d(2, 12, 3, padding=1), nn.ReLU(),
    nn.Conv2d(12, 12, 3, padding=1), nn.ReLU(),
    nn.Conv2d(12, 12, 3, padding=1), nn.ReLU(),
    nn.Conv2d(12, 1, 1),
)
loader = DataLoader(TensorDataset(*terrain(480)), batch_size=16, shuffle=True)
optimizer = torch.optim.SGD(net.parameters(), lr=args.lr, momentum=0.9)
bce = nn.BCEWithLogitsLoss()

for epoch in range(args.epochs):
    optimizer.zero_grad()
    running = 0.0
    for x, y in loader:
        loss = bce(net(x), y)
        loss.backward()
        optimizer.step()
        running += loss.item()
    print(f"epoch {epoch} bce {running / len(loader):.4f}")
