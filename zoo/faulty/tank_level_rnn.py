import torch
from torch import nn

torch.manual_seed(4)


class Integrator(nn.Module):
    """Predicts the exponentially weighted level of a tank from its inflow and outflow."""

    def __init__(self, hidden=32):
        super().__init__()
        self.hidden = hidden
        self.cell = nn.RNNCell(2, hidden, nonlinearity="relu")
        self.out = nn.Linear(hidden, 1)
        self.cell.weight_hh.data = 0.96 * torch.eye(hidden)
        nn.init.normal_(self.cell.weight_ih, std=0.1)
        nn.init.zeros_(self.cell.bias_ih)
        nn.init.zeros_(self.cell.bias_hh)

    def forward(self, x):
        h = x.new_zeros(x.shape[0], self.hidden)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
        return self.out(h)


decay = 0.95 ** torch.arange(199, -1, -1).float()


def make_batch(n=24, length=200):
    x = torch.rand(n, length, 2)
    flow = x[..., 0] - 0.5 * x[..., 1]
    return x, (flow * decay).sum(1, keepdim=True) / 4


model = Integrator()
optimizer = torch.optim.SGD(model.parameters(), lr=2e-3, momentum=0.9)
criterion = nn.MSELoss()
for step in range(90):
    x, y = make_batch()
    loss = criterion(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 10 == 9:
        print(f"step {step + 1} loss {loss.item():.5g}")
