import torch
import torch.nn as nn


class RBF(nn.Module):
    """phi_j(x) = exp(-beta_j |x - c_j|^2)"""

    def __init__(self, n_in, n_centres):
        super().__init__()
        self.c = nn.Parameter(torch.randn(n_centres, n_in))
        self.log_beta = nn.Parameter(torch.zeros(n_centres))

    def forward(self, x):
        d2 = (x.unsqueeze(1) - self.c).pow(2).sum(-1)
        return torch.exp(-self.log_beta.exp() * d2)


torch.manual_seed(100)
phi = RBF(2, 40)
read = nn.Linear(40, 1)
f = nn.Sequential(phi, read)

N = 500
x = torch.randn(N, 2)
y = (torch.sin(1.5 * x[:, :1]) * torch.cos(x[:, 1:]) + 0.5 * x[:, :1]) * 1.5

eta = 0.2
descent = torch.optim.SGD(f.parameters(), lr=eta)

for t in range(250):
    idx = torch.randint(0, N, (100,))
    J = 0.5 * (f(x[idx]) - y[idx]).pow(2).mean()
    descent.zero_grad()
    J.backward()
    descent.step()
    if t % 50 == 0 or t == 249:
        with torch.no_grad():
            print("t = %d, J = %.5f" % (t, 0.5 * (f(x) - y).pow(2).mean()))
