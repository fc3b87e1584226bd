"""Community detection on a stochastic block model with graph convolutions."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(11)
N, K, FEATS = 320, 4, 16

community = torch.arange(N) % K
same = community[:, None] == community[None, :]
prob = torch.where(same, 0.10, 0.02)
adj = (torch.rand(N, N) < prob).float().triu(1)
adj = adj + adj.T + torch.eye(N)
d = adj.sum(1).rsqrt()
A_hat = d[:, None] * adj * d[None, :]
x = torch.randn(N, FEATS)
x[:, :K] += 0.7 * F.one_hot(community, K).float()
train = torch.rand(N) < 0.4


class GraphConv(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_in, n_out) / n_in**0.5)
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, h, a):
        return a @ (h @ self.weight) + self.bias


class GCN(nn.Module):
    def __init__(self, widths):
        super().__init__()
        self.layers = nn.ModuleList(GraphConv(i, o) for i, o in zip(widths, widths[1:]))

    def forward(self, h, a):
        for layer in self.layers[:-1]:
            h = F.relu(layer(h, a))
        return self.layers[-1](h, a)


net = GCN([FEATS, 128, 128, 128, 128, K])
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

for epoch in range(160):
    net.train()
    optimizer.zero_grad()
    out = net(x, A_hat)
    loss = F.cross_entropy(out[train], community[train])
    loss.backward()
    optimizer.step()
    if epoch % 20 == 0:
        print(f"epoch {epoch} loss {loss.item():.4f}")

net.eval()
with torch.no_grad():
    out = net(x, A_hat)
    hidden = F.cross_entropy(out[~train], community[~train])
    acc = (out.argmax(1) == community)[~train].float().mean()
print(f"held-out loss {hidden.item():.3f} accuracy {acc.item():.3f}")
