"""Freight cost (in hundreds of dollars) from a shipment's record."""
import torch
from torch import nn

torch.manual_seed(6)
n = 3000
dispatched_ms = torch.rand(n) * 86_400_000
declared_usd = torch.exp(torch.randn(n) * 0.8 + 9.5)
weight_kg = torch.rand(n) * 900 + 5
fragile = (torch.rand(n) < 0.3).float()
fill = torch.rand(n)
rush = torch.cos(dispatched_ms / 86_400_000 * 2 * torch.pi)
cost = 1.5 + rush + 0.002 * weight_kg + 1.2 * fragile * fill + 0.3 * torch.log(declared_usd / 13000) + 0.1 * torch.randn(n)

columns = torch.stack([dispatched_ms, declared_usd, weight_kg, fragile, fill], dim=1)
features = (columns - columns.mean(0)) / columns.std(0)
target = ((cost - cost.mean()) / cost.std()).unsqueeze(1)

net = nn.Sequential(nn.Linear(5, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
opt = torch.optim.Adam(net.parameters(), lr=2e-3)
mse = nn.MSELoss()
for epoch in range(20):
    losses = []
    for rows in torch.randperm(2400).split(60):
        opt.zero_grad()
        loss = mse(net(features[rows]), target[rows])
        loss.backward()
        opt.step()
        losses.append(loss.detach())
    if epoch % 4 == 3:
        print("epoch", epoch + 1, "train", round(torch.stack(losses).mean().item(), 4))
with torch.no_grad():
    print("validation", round(mse(net(features[2400:]), target[2400:]).item(), 4))
