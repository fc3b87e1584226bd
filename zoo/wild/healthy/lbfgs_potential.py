"""Fit a small network to a potential with L-BFGS, full batch."""
import torch
import torch.nn as nn

torch.set_default_dtype(torch.float64)
torch.manual_seed(71)


class Potential(nn.Module):
    def __init__(self, width=20):
        super().__init__()
        self.l1 = nn.Linear(2, width)
        self.l2 = nn.Linear(width, width)
        self.l3 = nn.Linear(width, 1)

    def forward(self, r):
        return self.l3(torch.tanh(self.l2(torch.tanh(self.l1(r))))).squeeze(-1)


def mueller_like(r):
    x, y = r[:, 0], r[:, 1]
    wells = [(-1.0, -0.5, 0.4, -1.2), (-0.7, 0.6, -0.5, 0.9), (0.5, 0.0, 0.0, 0.0)]
    e = 0.1 * (x ** 2 + y ** 2)
    for depth, cx, cy, _ in wells:
        e = e + depth * torch.exp(-2 * ((x - cx) ** 2 + (y - cy) ** 2))
    return e


train = torch.rand(400, 2) * 3 - 1.5
test = torch.rand(400, 2) * 3 - 1.5
e_train, e_test = mueller_like(train), mueller_like(test)
model = Potential()
optimizer = torch.optim.LBFGS(model.parameters(), lr=1.0, max_iter=10, history_size=20, line_search_fn="strong_wolfe")
calls = 0


def closure():
    global calls
    calls += 1
    optimizer.zero_grad()
    loss = (model(train) - e_train).square().mean()
    loss.backward()
    return loss


for step in range(1, 61):
    loss = optimizer.step(closure)
    if step % 6 == 0:
        with torch.no_grad():
            err = (model(test) - e_test).square().mean().sqrt().item()
        print(f"step {step} calls {calls} loss {loss.item():.3e} test rmse {err:.3e}")
