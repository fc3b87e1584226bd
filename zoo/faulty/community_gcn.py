"""Node classification with a two-layer graph convolution on a stochastic block model."""
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
n, k = 150, 3
community = torch.arange(n) % k
p = torch.where(community[:, None] == community[None, :], 0.15, 0.02)
upper = (torch.rand(n, n) < p).float().triu(1)
adj = upper + upper.t() + torch.eye(n)
deg = adj.sum(1).rsqrt()
adj = deg[:, None] * adj * deg[None, :]
feat = F.one_hot(community, k).float() * 0.5 + torch.randn(n, k)
train = torch.rand(n) < 0.5


class GCN(nn.Module):
    def __init__(self, hidden=16):
        super().__init__()
        self.lin1 = nn.Linear(k, hidden)
        self.lin2 = nn.Linear(hidden, k)

    def forward(self, x):
        x = F.relu(adj @ self.lin1(x))
        return adj @ self.lin2(x)


def limit_gradients(params, limit=1e-3):
    grads = [p.grad for p in params if p.grad is not None]
    norm = torch.sqrt(sum((g ** 2).sum() for g in grads))
    if norm > limit:
        for g in grads:
            g.mul_(limit / norm)


net = GCN()
opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
for epoch in range(250):
    loss = F.cross_entropy(net(feat)[train], community[train])
    opt.zero_grad()
    loss.backward()
    limit_gradients(list(net.parameters()))
    opt.step()
    if epoch % 25 == 0 or epoch == 249:
        print(f"epoch {epoch} loss {loss.item():.4f}")
