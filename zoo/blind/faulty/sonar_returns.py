import torch
from torch import nn

torch.manual_seed(5)
sizes = [60, 96, 96, 96, 96, 2]


class SonarNet(nn.Module):
    """rocks vs mines, written out by hand"""

    def __init__(self, sizes):
        super().__init__()
        self.weights = nn.ParameterList(
            [nn.Parameter(torch.empty(i, o).uniform_(-0.5, 0.5)) for i, o in zip(sizes, sizes[1:])])
        self.biases = nn.ParameterList([nn.Parameter(torch.zeros(o)) for o in sizes[1:]])

    def forward(self, x):
        last = len(self.weights) - 1
        for k, (w, b) in enumerate(zip(self.weights, self.biases)):
            x = torch.einsum("bi,io->bo", x, w) + b
            if k != last:
                x = x.clamp(min=0)
        return x


def make_returns(n):
    t = torch.linspace(0, 1, 60)
    kind = torch.randint(0, 2, (n,))
    centre = 0.25 + 0.5 * torch.rand(n, 1)
    width = torch.where(kind == 0, 0.06, 0.14).unsqueeze(1)
    x = torch.exp(-((t - centre) / width) ** 2) + 0.35 * torch.randn(n, 60)
    return (x - x.mean()) / x.std(), kind


X, Y = make_returns(1024)
net = SonarNet(sizes)
sgd = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
criterion = nn.CrossEntropyLoss()
step, running = 0, None
for epoch in range(3):
    for rows in torch.randperm(len(X)).split(32):
        sgd.zero_grad()
        loss = criterion(net(X[rows]), Y[rows])
        loss.backward()
        sgd.step()
        running = loss.item() if running is None else 0.95 * running + 0.05 * loss.item()
        step += 1
    print("epoch", epoch, "smoothed loss", round(running, 4))
