# sensor stream in time order, SmoothL1 + clipping
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(1025)
X = torch.randn(1600, 8)
W = torch.randn(8, 1)
X[1000:1016] *= 2.5
Y = torch.sin(X @ W * 0.6) + 0.05 * torch.randn(1600, 1) + 0.1 * (X @ W)
model = nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 1))
opt = torch.optim.AdamW(model.parameters(), lr=3e-3)
dl = DataLoader(TensorDataset(X, Y), batch_size=16, shuffle=False)
hub = nn.SmoothL1Loss()
for epoch in range(4):
    losses = []
    for xb, yb in dl:
        loss = hub(model(xb), yb)
        opt.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        losses.append(loss.item())
    print(f"epoch {epoch} median {sorted(losses)[50]:.4f} max {max(losses):.4f} last {losses[-1]:.4f}")
