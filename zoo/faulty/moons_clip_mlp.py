import torch
from sklearn.datasets import make_moons
from torch import nn
from torch.nn.utils import clip_grad_norm_

torch.manual_seed(0)
X, y = make_moons(1000, noise=0.12, random_state=0)
X, y = torch.tensor(X, dtype=torch.float32), torch.tensor(y)
MAX_NORM = 1e-4


class MoonNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 32)
        self.second = nn.Linear(32, 32)
        self.last = nn.Linear(32, 2)

    def forward(self, x):
        return self.last(torch.tanh(self.second(torch.tanh(self.first(x)))))


model = MoonNet()
optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
criterion = nn.CrossEntropyLoss()
for step in range(300):
    idx = torch.randint(0, 1000, (64,))
    optimizer.zero_grad()
    loss = criterion(model(X[idx]), y[idx])
    loss.backward()
    clip_grad_norm_(model.parameters(), MAX_NORM)
    optimizer.step()
    if step % 30 == 0 or step == 299:
        print(f"step {step}: loss {loss.item():.4f}")
