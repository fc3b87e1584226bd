# Graph convolution (Kipf & Welling) on a synthetic citation graph, dense adjacency
import torch, torch.nn as nn, torch.nn.functional as F

torch.manual_seed(17)
N, K, FEAT, HID, LAYERS = 240, 4, 24, 32, 20
comm = torch.randint(0, K, (N,))
same = (comm[:, None] == comm[None]).float()
A = (torch.rand(N, N) < 0.035 * same + 0.006 * (1 - same)).float()
A = ((A + A.t()) > 0).float()
A.fill_diagonal_(1.0)
deg = A.sum(1)
A_hat = A / torch.sqrt(deg[:, None] * deg[None])
centers = torch.randn(K, FEAT) * 0.6
feats = centers[comm] + torch.randn(N, FEAT)
train_mask = torch.zeros(N, dtype=torch.bool)
train_mask[torch.randperm(N)[:120]] = True


class GraphConv(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.lin = nn.Linear(i, o, bias=True)
        nn.init.xavier_uniform_(self.lin.weight, gain=nn.init.calculate_gain("relu"))

    def forward(self, x, adj):
        return adj @ self.lin(x)


class GCN(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = GraphConv(FEAT, HID)
        self.convs = nn.ModuleList([GraphConv(HID, HID) for _ in range(LAYERS - 2)])
        self.last = GraphConv(HID, K)

    def forward(self, x, adj):
        x = F.relu(self.first(x, adj))
        for conv in self.convs:
            x = x + 0.1 * F.relu(conv(x, adj))
        return self.last(x, adj)


model = GCN()
opt = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
for epoch in range(200):
    opt.zero_grad()
    out = model(feats, A_hat)
    loss = F.cross_entropy(out[train_mask], comm[train_mask])
    loss.backward()
    opt.step()
    if epoch % 25 == 0 or epoch == 199:
        acc = (out[~train_mask].argmax(1) == comm[~train_mask]).float().mean()
        print(f"Epoch {epoch:03d} | loss {loss.item():.4f} | test acc {acc:.3f}")
