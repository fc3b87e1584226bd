# Mixture density network for the inverse sine problem (Bishop 1994)
import math
import torch
import torch.nn as nn

torch.manual_seed(13)
n = 1200
t = torch.rand(n, 1)
x = t + 0.3 * torch.sin(2 * math.pi * t) + 0.05 * torch.randn(n, 1)
x_in = (x - x.mean()) / x.std()
K = 5


class MDN(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.z_h = nn.Sequential(nn.Linear(1, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh())
        self.z_pi = nn.Linear(hidden, K)
        self.z_mu = nn.Linear(hidden, K)
        self.z_sigma = nn.Linear(hidden, K)

    def forward(self, x):
        h = self.z_h(x)
        return torch.log_softmax(self.z_pi(h), -1), self.z_mu(h), self.z_sigma(h).clamp(-5, 3)


def mdn_loss(logpi, mu, logsig, target):
    lp = -0.5 * ((target - mu) / logsig.exp()) ** 2 - logsig - 0.5 * math.log(2 * math.pi)
    return -torch.logsumexp(logpi + lp, dim=1).mean()


net = MDN()
optimizer = torch.optim.Adam(net.parameters(), lr=5e-7)
for epoch in range(300):
    b = torch.randint(0, n, (200,))
    loss = mdn_loss(*net(x_in[b]), t[b])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if epoch % 50 == 0 or epoch == 299:
        print(epoch, f"{loss.item():.4f}")
