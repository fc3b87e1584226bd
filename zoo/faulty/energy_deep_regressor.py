import torch
from torch import nn

torch.manual_seed(2)


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc = nn.Linear(width, width)
        nn.init.kaiming_normal_(self.fc.weight, nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, x):
        return torch.relu(self.fc(x))


class Body(nn.Module):
    def __init__(self, width, depth):
        super().__init__()
        self.blocks = nn.ModuleList([Block(width) for _ in range(depth)])

    def forward(self, x):
        for b in self.blocks:
            x = b(x)
        return x


class Regressor(nn.Module):
    def __init__(self, n_in=6, width=20, depth=72):
        super().__init__()
        self.stem = nn.Linear(n_in, width)
        self.body = Body(width, depth)
        self.out = nn.Linear(width, 1)

    def forward(self, x):
        return self.out(self.body(self.stem(x)))


x = torch.randn(1024, 6)
y = (x[:, :2].prod(1, keepdim=True) + torch.sin(2 * x[:, 2:3]) + 0.5 * x[:, 3:4])
y = (y - y.mean()) / y.std()
model = Regressor()
optimizer = torch.optim.SGD(model.parameters(), lr=0.005, momentum=0.9)
mse = nn.MSELoss()
for step in range(250):
    idx = torch.randint(0, 1024, (128,))
    loss = mse(model(x[idx]), y[idx])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 25 == 0 or step == 249:
        print(f"step {step:3d} loss {loss.item():.4f}")
