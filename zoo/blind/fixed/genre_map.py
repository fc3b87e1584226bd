import torch
import torch.nn as nn
from torch.optim.lr_scheduler import StepLR


def init_params(m):
    if type(m) is nn.Linear:
        nn.init.kaiming_uniform_(m.weight, nonlinearity="relu")
        nn.init.constant_(m.bias, 0.0)


class GenreMap(nn.Module):
    def __init__(self, n_feat=18, n_genres=7):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(n_feat, 64), nn.ReLU(),
            nn.Linear(64, 64), nn.ReLU(),
            nn.Linear(64, 64), nn.ReLU(),
        )
        self.trunk.apply(init_params)
        self.genre = nn.Linear(64, n_genres)

    def forward(self, x):
        return self.genre(self.trunk(x))


def songs(n, protos):
    y = torch.randint(0, len(protos), (n,))
    return protos[y] + 0.7 * torch.randn(n, protos.size(1)), y


torch.manual_seed(70)
protos = torch.randn(7, 18)
net = GenreMap()
optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
scheduler = StepLR(optimizer, 100, 0.3)
keep = []
for it in range(220):
    x, y = songs(40, protos)
    loss = nn.functional.cross_entropy(net(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
    keep.append(loss.item())
    if it % 44 == 43:
        print("iteration", it + 1, "loss", round(sum(keep[-44:]) / 44, 4))
