# content-based lookup: attention should become almost one-hot
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(1018)
K, N, D = 16, 12, 24
keys = F.normalize(torch.randn(K, D), dim=1)


class Lookup(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k = nn.Linear(D, 24, bias=False), nn.Linear(D, 24, bias=False)
        self.softmax = nn.Softmax(dim=-1)
        self.temp = nn.Parameter(torch.tensor(1.0))

    def forward(self, query, mem_k, mem_v):
        s = torch.bmm(self.k(mem_k), self.q(query).unsqueeze(2)).squeeze(2) * self.temp.exp()
        w = self.softmax(s)
        return torch.bmm(w.unsqueeze(1), mem_v).squeeze(1), w


net = Lookup()
opt = torch.optim.Adam(net.parameters(), lr=1e-2)
for step in range(301):
    ids = torch.stack([torch.randperm(K)[:N] for _ in range(48)])
    mem_k, mem_v = keys[ids], torch.randn(48, N, 4)
    pick = torch.randint(0, N, (48,))
    query = keys[ids[torch.arange(48), pick]] + 0.05 * torch.randn(48, D)
    out, w = net(query, mem_k, mem_v)
    loss = F.mse_loss(out, mem_v[torch.arange(48), pick])
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 50 == 0:
        print(f"step {step} mse {loss.item():.5f} mean max weight {w.max(1).values.mean().item():.4f}")
