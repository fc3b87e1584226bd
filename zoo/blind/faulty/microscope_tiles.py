import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset, DataLoader


class Tiles(Dataset):
    """cells: count the kind of texture in a tile, 4 kinds"""

    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        self.y = torch.randint(0, 4, (n,), generator=g)
        t = torch.arange(12).float()
        a = torch.sin(t * 0.9)[None, :, None].expand(n, 12, 12)
        b = torch.sin(t * 0.9)[None, None, :].expand(n, 12, 12)
        mix = torch.stack([a, b, a * b, (a + b) / 2], 1)[torch.arange(n), self.y]
        self.x = (mix + 0.6 * torch.randn(n, 12, 12, generator=g)).unsqueeze(1)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


class TileNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 12, 3, stride=2, padding=1), nn.BatchNorm2d(12)
        self.conv2, self.bn2 = nn.Conv2d(12, 24, 3, stride=2, padding=1), nn.BatchNorm2d(24)
        self.fc1, self.bn3 = nn.Linear(24 * 9, 32), nn.BatchNorm1d(32)
        self.fc2 = nn.Linear(32, 4)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.relu(self.bn3(self.fc1(x.flatten(1))))
        return self.fc2(x)


torch.manual_seed(50)
train, test = Tiles(280, 1), Tiles(200, 2)
loader = DataLoader(train, batch_size=2, shuffle=True)
net = TileNet()
opt = torch.optim.Adam(net.parameters(), lr=2e-3)
for epoch in range(2):
    net.train()
    total = 0.0
    for x, y in loader:
        opt.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        opt.step()
        total += loss.item()
    net.eval()
    with torch.no_grad():
        test_loss = F.cross_entropy(net(test.x), test.y).item()
    print(f"epoch {epoch} test {test_loss:.4f} train {total / len(loader):.4f}")
