"""Small residual CNN on rotated digits."""
import torch
from torch import nn
from torch.nn import functional as F
from sklearn.datasets import load_digits

torch.manual_seed(77)
D = load_digits()
img = torch.tensor(D.images, dtype=torch.float32)[:, None] / 16 - 0.3
lab = torch.tensor(D.target)
rot = torch.rot90(img, 1, (2, 3))


class Res(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)
        self.c2, self.b2 = nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)

    def forward(self, x):
        return F.relu(x + self.b2(self.c2(F.relu(self.b1(self.c1(x))))))


net = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), Res(12), nn.MaxPool2d(2), Res(12), nn.AdaptiveAvgPool2d(2),
                    nn.Flatten(), nn.Linear(48, 10))


def fit(images, lr, steps, tag):
    opt = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9, weight_decay=1e-4)
    net.train()
    for i in range(steps):
        j = torch.randint(0, 1400, (48,))
        loss = F.cross_entropy(net(images[j]), lab[j])
        opt.zero_grad()
        loss.backward()
        opt.step()
        if (i + 1) % 20 == 0:
            print(f"{tag} {i + 1} {loss.item():.4f}")


def evaluate(images):
    net.eval()
    with torch.no_grad():
        return F.cross_entropy(net(images[1400:]), lab[1400:]).item()


fit(rot, 5e-2, 120, "adapt")
print(f"val loss {evaluate(rot):.4f}")
