"""Graph convolution by hand: which club does each member of a random community graph join?"""
import torch
from torch import nn


def community_graph(n=120, gen=None):
    club = torch.arange(n) % 3
    same = club[:, None] == club[None]
    edge = torch.rand(n, n, generator=gen) < torch.where(same, 0.15, 0.01)
    adj = (edge | edge.t()).float()
    adj.fill_diagonal_(1)
    deg = adj.sum(1)
    return adj / (deg[:, None] * deg[None]).sqrt(), club


class GraphConv(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_in, n_out))
        self.bias = nn.Parameter(torch.zeros(n_out))
        nn.init.normal_(self.weight, std=1e-4)

    def forward(self, x, adj):
        return adj @ (x @ self.weight) + self.bias


class GCN(nn.Module):
    def __init__(self, n_in, hidden=32, n_out=3):
        super().__init__()
        self.gc1 = GraphConv(n_in, hidden)
        self.gc2 = GraphConv(hidden, hidden)
        self.gc3 = GraphConv(hidden, n_out)

    def forward(self, x, adj):
        x = self.gc1(x, adj).relu()
        x = self.gc2(x, adj).relu()
        return self.gc3(x, adj)


gen = torch.Generator().manual_seed(0)
torch.manual_seed(0)
adj, club = community_graph(gen=gen)
x = torch.randn(120, 16, generator=gen) + nn.functional.one_hot(club, 16)
net = GCN(16)
opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
for epoch in range(250):
    logits = net(x, adj)
    loss = nn.functional.cross_entropy(logits[:90], club[:90])
    opt.zero_grad()
    loss.backward()
    opt.step()
print(loss.item(), (logits.argmax(1) == club).float().mean().item())
