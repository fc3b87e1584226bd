import math
import torch
from torch import nn
from torch.utils.data import TensorDataset, DataLoader, random_split

SEED, EPOCHS, BS, LR = 2024, 10, 64, 0.012
torch.manual_seed(SEED)

# --- features: wind speed, direction, temperature, pitch, rpm
n = 1200
speed = 3 + 12 * torch.rand(n)
direction = 2 * math.pi * torch.rand(n)
temp = -5 + 25 * torch.rand(n)
pitch = 15 * torch.rand(n)
rpm = 8 + 10 * torch.rand(n)
power = torch.tanh((speed - 9) / 3) * torch.cos(pitch / 12) + 0.2 * torch.sin(direction) - 0.01 * temp + 0.02 * rpm
feats = torch.stack([speed, torch.sin(direction), torch.cos(direction), temp, pitch, rpm], 1)
feats = (feats - feats.mean(0)) / feats.std(0)
power = ((power - power.mean()) / power.std()).unsqueeze(1)

train_set, valid_set = random_split(TensorDataset(feats, power), [1000, 200])
train_dl = DataLoader(train_set, BS, shuffle=True)

model = nn.Sequential(
    nn.Linear(6, 64), nn.LayerNorm(64), nn.GELU(),
    nn.Linear(64, 64), nn.GELU(),
    nn.Linear(64, 1),
)
optimizer = torch.optim.RMSprop(model.parameters(), lr=LR, momentum=0.5)
criterion = nn.MSELoss()

for epoch in range(EPOCHS):
    model.train()
    tr = 0.0
    for xb, yb in train_dl:
        loss = criterion(model(xb), yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        tr += loss.item() * len(xb)
    model.eval()
    with torch.no_grad():
        va = sum(criterion(model(x[None]), y[None]).item() for x, y in valid_set) / len(valid_set)
    print(f"epoch {epoch:2d} | valid {va:.4f} | train {tr / len(train_set):.4f}")
