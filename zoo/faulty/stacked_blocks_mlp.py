import torch
import torch.nn as nn

torch.manual_seed(0)


class SpiralNet(nn.Module):
    """Separates two intertwined spirals."""

    def __init__(self, width=16, n_hidden=3):
        super().__init__()
        self.inp = nn.Linear(2, width)
        self.blocks = [nn.Linear(width, width) for _ in range(n_hidden)]
        self.out = nn.Linear(width, 1)

    def forward(self, x):
        x = torch.tanh(self.inp(x))
        for block in self.blocks:
            x = torch.tanh(block(x))
        return self.out(x).squeeze(-1)


n = 600
r = torch.rand(n) ** 0.5
arm = torch.arange(n) % 2
phi = 3.0 * 3.14159 * r + arm * 3.14159
pts = torch.stack([r * phi.cos(), r * phi.sin()], 1) * 2 + 0.03 * torch.randn(n, 2)
target = arm.float()

model = SpiralNet()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
criterion = nn.BCEWithLogitsLoss()
for step in range(400):
    loss = criterion(model(pts), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 40 == 0 or step == 399:
        print(f"step {step} loss {loss.item():.4f}")
