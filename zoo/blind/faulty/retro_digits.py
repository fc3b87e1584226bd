import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import load_digits

np.random.seed(0)
torch.manual_seed(0)

CFG = [16, 16, 32, 'M', 32, 48, 'M', 48]


def make_layers(cfg, in_channels=1):
    layers = []
    for v in cfg:
        if v == 'M':
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(in_channels, v, 3, padding=1), nn.ReLU(inplace=True)]
            in_channels = v
    return nn.Sequential(*layers)


class VGGish(nn.Module):
    def __init__(self):
        super(VGGish, self).__init__()
        self.features = make_layers(CFG)
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(48 * 4, 64), nn.ReLU(True), nn.Linear(64, 10))
        for m in self.modules():
            if isinstance(m, (nn.Conv2d, nn.Linear)):
                m.weight.data.normal_(0, 0.01)
                m.bias.data.zero_()

    def forward(self, x):
        return self.classifier(self.features(x))


def main():
    d = load_digits()
    images = ((d.images / 16.0 - 0.3) / 0.37).astype(np.float32)[:, None]
    labels = d.target
    model = VGGish()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    avg = 0.0
    for i in range(120):
        pick = np.random.choice(len(labels), 32)
        out = model(torch.from_numpy(images[pick]))
        loss = criterion(out, torch.from_numpy(labels[pick]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        avg += loss.item()
        if (i + 1) % 20 == 0:
            print('[%d] loss: %.4f' % (i + 1, avg / 20))
            avg = 0.0


if __name__ == '__main__':
    main()
