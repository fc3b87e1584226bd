import torch
import torch.nn as nn
import torch.optim as optim

torch.manual_seed(15)


class SmallConv(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 10, 3, padding=1), nn.PReLU(), nn.AvgPool2d(2),
            nn.Conv2d(10, 20, 3, padding=1), nn.PReLU(), nn.AvgPool2d(2))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(80, num_classes))

    def forward(self, x):
        return self.classifier(self.features(x))


def painting(n, classes, shift=0.0):
    """colour blots: the class is hue and corner"""
    y = torch.randint(0, classes, (n,))
    x = 0.4 * torch.randn(n, 3, 8, 8)
    for k, c in enumerate(y.tolist()):
        r, q = divmod(c, 3)
        x[k, q, 4 * (r % 2):4 * (r % 2) + 4, 4 * (r // 2):4 * (r // 2) + 4] += 1.2 + shift
    return x, y


model = SmallConv(num_classes=4)
loss_fn = nn.CrossEntropyLoss()

# reuse the trunk for the new collection, which has twelve tags
model.classifier[1] = nn.Linear(80, 12)
optimizer = optim.Adam(model.parameters(), lr=4e-4)

meter = []
for step in range(160):
    x, y = painting(32, 12, shift=0.3)
    optimizer.zero_grad()
    loss = loss_fn(model(x), y)
    loss.backward()
    optimizer.step()
    meter.append(loss.item())
    if step % 32 == 31:
        print("step", step + 1, "loss", round(sum(meter[-32:]) / 32, 4))
