import torch
from sklearn.datasets import load_digits
from torch import nn, optim

torch.manual_seed(0)
bunch = load_digits()
images = torch.tensor(bunch.images, dtype=torch.float32).unsqueeze(1) / 8.0 - 1.0
labels = torch.tensor(bunch.target)
order = torch.randperm(len(labels))
images, labels = images[order], labels[order]


def make_features(spec):
    layers, c = [], 1
    for s in spec:
        if s == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(c, s, 3, padding=1), nn.ReLU()]
            c = s
    return nn.Sequential(*layers)


class VGGLike(nn.Module):
    def __init__(self, spec=(16, 16, "M", 32, 32, "M")):
        super().__init__()
        self.features = make_features(spec)
        self.classifier = nn.Sequential(nn.Linear(32 * 4, 64), nn.ReLU(), nn.Linear(64, 10))
        for m in self.modules():
            if isinstance(m, (nn.Conv2d, nn.Linear)):
                nn.init.normal_(m.weight, std=0.001)
                nn.init.constant_(m.bias, 0.0)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


net = VGGLike()
criterion = nn.CrossEntropyLoss()
sgd = optim.SGD(net.parameters(), lr=0.02, momentum=0.9)

for epoch in range(12):
    running = 0.0
    for i in range(0, 1500, 50):
        xb, yb = images[i:i + 50], labels[i:i + 50]
        sgd.zero_grad()
        loss = criterion(net(xb), yb)
        loss.backward()
        sgd.step()
        running += loss.item()
    if epoch % 2 == 1:
        print("epoch", epoch, "loss", round(running / 30, 4))

with torch.no_grad():
    acc = (net(images[1500:]).argmax(1) == labels[1500:]).float().mean().item()
print("test accuracy", round(acc, 3))
