"""Volume classifier: 3-D crops, small batches because of memory."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


class Crops(Dataset):
    """Noisy ellipsoids; the class is the long axis."""

    def __init__(self, n, side=8, seed=0):
        g = torch.Generator().manual_seed(seed)
        grid = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, side)] * 3, indexing="ij"))
        self.y = torch.randint(0, 3, (n,), generator=g)
        self.x = torch.empty(n, 1, side, side, side)
        for i in range(n):
            axes = torch.full((3,), 0.45)
            axes[self.y[i]] = 1.0
            inside = ((grid / axes.view(3, 1, 1, 1)) ** 2).sum(0) < 0.9
            gain = 0.5 + 3 * torch.rand(1, generator=g)
            self.x[i, 0] = gain * (inside.float() + 0.4 * torch.randn(side, side, side, generator=g)) + torch.randn(1, generator=g)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


class VolumeNet(nn.Module):
    def __init__(self, w=8, classes=3):
        super().__init__()
        self.conv1 = nn.Conv3d(1, w, 3, padding=1)
        self.bn1 = nn.BatchNorm3d(w)
        self.conv2 = nn.Conv3d(w, 2 * w, 3, stride=2, padding=1)
        self.bn2 = nn.BatchNorm3d(2 * w)
        self.fc1 = nn.Linear(2 * w * 8, 32)
        self.bn3 = nn.GroupNorm(4, 32)
        self.fc2 = nn.Linear(32, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.max_pool3d(x, 2).flatten(1)
        x = F.relu(self.bn3(self.fc1(x)))
        return self.fc2(x)


def main():
    torch.manual_seed(0)
    train = DataLoader(Crops(300), batch_size=2, shuffle=True)
    test = DataLoader(Crops(150, seed=1), batch_size=50)
    model = VolumeNet()
    opt = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(4):
        model.train()
        run = 0.0
        for x, y in train:
            loss = F.cross_entropy(model(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            run += loss.item()
        model.eval()
        with torch.no_grad():
            stats = [(F.cross_entropy(model(x), y).item(), (model(x).argmax(1) == y).float().mean().item()) for x, y in test]
        l, a = map(lambda v: sum(v) / len(v), zip(*stats))
        print(f"epoch {epoch} train {run / len(train):.4f} test {l:.4f} acc {a:.3f}")


main()
