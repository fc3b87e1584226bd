# overcomplete ReLU autoencoder with L1 on codes: most units off for most samples
import torch
from torch import nn
from sklearn.datasets import load_digits

torch.manual_seed(1008)
X = torch.tensor(load_digits().data, dtype=torch.float32)
X = (X - X.mean(0)) / 8


class SparseAE(nn.Module):
    def __init__(self, d=64, k=160):
        super().__init__()
        self.enc = nn.Linear(d, k)
        self.act = nn.ReLU()
        self.dec = nn.Linear(k, d)
        with torch.no_grad():
            self.dec.weight.copy_(self.enc.weight.t())

    def forward(self, x):
        z = self.act(self.enc(x))
        return self.dec(z), z


ae = SparseAE()
opt = torch.optim.Adam(ae.parameters(), lr=3e-3)
for epoch in range(16):
    for xb in X[torch.randperm(1600)].split(64):
        out, z = ae(xb)
        rec = ((out - xb) ** 2).sum(1).mean()
        loss = rec + 0.5 * z.abs().sum(1).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
    if epoch % 3 == 0:
        with torch.no_grad():
            out, z = ae(X[1600:])
        print(f"epoch {epoch} loss {loss.item():.4f} rec {((out - X[1600:]) ** 2).sum(1).mean():.4f} "
              f"zeros {(z == 0).float().mean():.3f} never-on {(z.amax(0) == 0).float().mean():.3f}")
