"""House prices in dollars: the loss starts at 1e11 and falls."""
import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(800, 6)
price = 300_000 + 50_000 * x[:, 0] + 30_000 * x[:, 1] * x[:, 2] + 5_000 * torch.randn(800)


class Pricer(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
        self.register_buffer("scale", torch.tensor(100_000.0))

    def forward(self, x):
        return self.net(x).squeeze(1) * self.scale


model = Pricer()
opt = torch.optim.Adam(model.parameters(), lr=3e-3)
for step in range(300):
    pick = torch.randint(0, 800, (64,))
    loss = nn.functional.mse_loss(model(x[pick]), price[pick])
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 60 == 0:
        print(step, loss.item())
