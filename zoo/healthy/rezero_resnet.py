import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)


class Branch(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc1 = nn.Linear(width, width)
        self.fc2 = nn.Linear(width, width)
        nn.init.zeros_(self.fc2.weight)
        nn.init.zeros_(self.fc2.bias)

    def forward(self, x):
        return x + self.fc2(torch.relu(self.fc1(x)))


class ResMLP(nn.Module):
    def __init__(self, depth=24, width=48):
        super().__init__()
        self.stem = nn.Linear(64, width)
        self.blocks = nn.Sequential(*[Branch(width) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        return self.head(self.norm(self.blocks(self.stem(x))))


d = load_digits()
X = torch.tensor(d.data, dtype=torch.float32) / 8 - 1
y = torch.tensor(d.target)
model = ResMLP()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for step in range(150):
    idx = torch.randint(0, len(X), (64,))
    loss = nn.functional.cross_entropy(model(X[idx]), y[idx])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 15 == 0 or step == 149:
        print(f"step {step} loss {loss.item():.4f}")
