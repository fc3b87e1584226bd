import torch
from torch import nn


class MF(nn.Module):
    def __init__(self, users, films, k=8):
        super().__init__()
        self.u, self.f = nn.Embedding(users, k, sparse=True), nn.Embedding(films, k, sparse=True)
        nn.init.normal_(self.u.weight, std=0.3)
        nn.init.normal_(self.f.weight, std=0.3)
        self.mean = nn.Parameter(torch.zeros(()))

    def forward(self, u, f):
        return (self.u(u) * self.f(f)).sum(1) + self.mean


torch.manual_seed(18)
U, I = 300, 1000
tu, tf = torch.randn(U, 2), torch.randn(I, 2)
model = MF(U, I)
sparse = torch.optim.SparseAdam(list(model.u.parameters()) + list(model.f.parameters()), lr=0.03)
dense = torch.optim.SGD([model.mean], lr=0.05)
avg = 0.0
for step in range(1, 301):
    u = torch.randint(0, U, (256,))
    f = (I * torch.rand(256) ** 2.5).long()
    r = 3.5 + (tu[u] * tf[f]).sum(1) + 0.1 * torch.randn(256)
    loss = nn.functional.mse_loss(model(u, f), r)
    sparse.zero_grad()
    dense.zero_grad()
    loss.backward()
    sparse.step()
    dense.step()
    avg += loss.item()
    if step % 50 == 0:
        print("step", step, "mse", round(avg / 50, 4))
        avg = 0.0
