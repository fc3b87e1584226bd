"""A diagonal state-space model accumulates a pulse train."""
import torch
from torch import nn

LENGTH = 100


class DiagonalSSM(nn.Module):
    def __init__(self, n_state=24):
        super().__init__()
        self.a = nn.Parameter(torch.linspace(0.9, 0.99, n_state))
        self.b = nn.Parameter(torch.randn(1, n_state))
        self.c = nn.Linear(n_state, 1)

    def forward(self, u):
        state = torch.zeros(u.shape[0], self.a.shape[0])
        for t in range(u.shape[1]):
            state = self.a * state + u[:, t] @ self.b
        return self.c(state / 10)


torch.manual_seed(0)
model = DiagonalSSM()
opt = torch.optim.SGD(model.parameters(), lr=1e-5)
for step in range(150):
    u = (torch.rand(32, LENGTH, 1) < 0.1).float()
    target = (u * torch.linspace(0, 1, LENGTH)[:, None]).sum(1)
    loss = nn.functional.mse_loss(model(u), target)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 30 == 0:
        print(step, loss.item())
