import torch
from torch import nn
from sklearn.datasets import make_moons


class RandomFeatures(nn.Module):
    def __init__(self, d, m, gamma=1.5):
        super().__init__()
        self.register_buffer("w", torch.randn(d, m) * gamma)
        self.register_buffer("b", 6.2832 * torch.rand(m))

    def forward(self, x):
        return (x @ self.w + self.b).cos() * (2 / self.w.size(1)) ** 0.5


torch.manual_seed(56)
pts, lab = make_moons(600, noise=0.08, random_state=56)
x, y = torch.tensor(pts, dtype=torch.float32), torch.tensor(lab * 2.0 - 1.0, dtype=torch.float32)
svm = nn.Sequential(RandomFeatures(2, 200), nn.Linear(200, 1))
opt = torch.optim.SGD(svm.parameters(), lr=1.0, momentum=0.9)
for epoch in range(16):
    total = 0.0
    for i in torch.randperm(600).split(40):
        loss = torch.relu(1 - y[i] * svm(x[i]).squeeze(1)).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item()
    if epoch % 3 == 0:
        print("epoch", epoch, "hinge", round(total / 15, 4))
