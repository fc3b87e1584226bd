import torch
import torch.nn as nn
import torch.nn.functional as F


class GraphConvolution(nn.Module):
    def __init__(self, d_in, d_out):
        super().__init__()
        self.lin = nn.Linear(d_in, d_out)

    def forward(self, x, adj):
        return adj @ self.lin(x)


class GCN(nn.Module):
    def __init__(self, d, hidden, classes):
        super().__init__()
        self.gc1 = GraphConvolution(d, hidden)
        self.gc2 = GraphConvolution(hidden, 8)
        self.readout = nn.Linear(8, classes)

    def forward(self, x, adj):
        h = F.elu(self.gc1(x, adj))
        h = self.gc2(h, adj)
        scale = h.data.norm(dim=1, keepdim=True) + 1e-6
        h = h / scale
        return self.readout(3 * h)


def block_model(n_per, k, p_in, p_out):
    label = torch.arange(k).repeat_interleave(n_per)
    prob = torch.where(label[:, None] == label[None], p_in, p_out)
    upper = torch.triu((torch.rand_like(prob) < prob).float(), 1)
    a = upper + upper.T + torch.eye(len(label))
    deg = a.sum(1).rsqrt()
    return deg[:, None] * a * deg[None], label


torch.manual_seed(99)
adj, label = block_model(40, 6, 0.12, 0.03)
x = torch.randn(240, 24) + 0.6 * torch.randn(6, 24)[label]
train = torch.rand(240) < 0.6
gcn = GCN(24, 32, 6)
optimizer = torch.optim.Adam(gcn.parameters(), lr=0.01, weight_decay=5e-4)
for epoch in range(1, 121):
    optimizer.zero_grad()
    out = gcn(x, adj)
    loss = F.cross_entropy(out[train], label[train])
    loss.backward()
    optimizer.step()
    if epoch % 20 == 0:
        acc = (out[~train].argmax(1) == label[~train]).float().mean().item()
        print(f"Epoch: {epoch:03d} acc_val: {acc:.3f} loss_train: {loss.item():.4f}")
