import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class NoisyClusters(Dataset):
    def __init__(self, n, flip, seed, classes=6, dim=12):
        g = torch.Generator().manual_seed(seed)
        centres = torch.randn(classes, dim, generator=torch.Generator().manual_seed(0)) * 1.6
        self.clean = torch.randint(classes, (n,), generator=g)
        self.x = centres[self.clean] + torch.randn(n, dim, generator=g)
        random_y = torch.randint(classes, (n,), generator=g)
        swap = torch.rand(n, generator=g) < flip
        self.y = torch.where(swap, random_y, self.clean)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


def build_model():
    return nn.Sequential(nn.Linear(12, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 6))


def main():
    torch.manual_seed(88)
    train, test = NoisyClusters(3000, 0.4, 1), NoisyClusters(800, 0.0, 2)
    loader = DataLoader(train, batch_size=100, shuffle=True)
    model = build_model()
    opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    for epoch in range(12):
        model.train()
        seen = []
        for x, y in loader:
            loss = nn.functional.cross_entropy(model(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            seen.append(loss.item())
        model.eval()
        with torch.no_grad():
            acc = (model(test.x).argmax(1) == test.clean).float().mean().item()
        print(f"epoch {epoch + 1:2d} noisy train loss {sum(seen) / len(seen):.4f} clean test acc {acc:.4f}")


main()
