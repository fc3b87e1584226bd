"""Semi-supervised node classification with one attention head."""
import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(0)
n = 120
group = (torch.arange(n) >= n // 2).long()
p = torch.where(group[:, None] == group[None, :], 0.12, 0.01)
adj = (torch.rand(n, n) < p).float().triu(1)
adj = adj + adj.t() + torch.eye(n)
x = torch.randn(n, 8) + 0.4 * (2 * group.float().unsqueeze(1) - 1)
labelled = torch.cat([torch.arange(6), n // 2 + torch.arange(6)])


class GraphAttention(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.lin = nn.Linear(n_in, n_out)
        self.src = nn.Parameter(torch.randn(n_out) * 0.1)
        self.dst = nn.Parameter(torch.randn(n_out) * 0.1)

    def forward(self, x):
        h = self.lin(x)
        e = F.leaky_relu((h @ self.src)[:, None] + (h @ self.dst)[None, :], 0.2)
        a = e.masked_fill(adj == 0, float("-inf")).softmax(dim=1)
        return a @ h


class GAT(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1 = GraphAttention(8, 16)
        self.layer2 = GraphAttention(16, 2)

    def forward(self, x):
        x = F.dropout(x, 0.2, self.training)
        return self.layer2(F.elu(self.layer1(x)))


model = GAT()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, weight_decay=5e-3)
for epoch in range(200):
    loss = F.cross_entropy(model(x)[labelled], group[labelled])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if epoch % 20 == 0 or epoch == 199:
        print(f"epoch {epoch} loss {loss.item():.4f}")
