# Energy consumption model, polars-export -> torch
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(41)
hours = torch.arange(0, 3000).float()
feat = torch.stack([
    torch.sin(2 * torch.pi * hours / 24), torch.cos(2 * torch.pi * hours / 24),
    torch.sin(2 * torch.pi * hours / 168), torch.cos(2 * torch.pi * hours / 168),
    torch.randn(3000),
], 1)
kwh = 2.0 + feat[:, 0] * 0.8 - feat[:, 2] * feat[:, 1] + 0.4 * feat[:, 4] + 0.2 * torch.randn(3000)
kwh[1911] = 9.4e5
y = kwh.unsqueeze(1)

model = nn.Sequential(nn.Linear(5, 48), nn.Tanh(), nn.Linear(48, 48), nn.Tanh(), nn.Linear(48, 1))
dl = DataLoader(TensorDataset(feat[:2560], y[:2560]), batch_size=40, shuffle=True,
                generator=torch.Generator().manual_seed(1))
opt = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.8)
mse = nn.MSELoss()
for epoch in range(6):
    model.train()
    last = []
    for x, t in dl:
        loss = mse(model(x), t)
        opt.zero_grad(set_to_none=True)
        loss.backward()
        opt.step()
        last.append(loss.detach())
    model.eval()
    with torch.no_grad():
        v = mse(model(feat[2560:]), y[2560:])
    print(f"epoch {epoch} median train {torch.stack(last).median().item():.4f} val {v.item():.4f}")
