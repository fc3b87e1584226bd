import torch
import torch.nn as nn

torch.manual_seed(2025)
model = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 1))
opt = torch.optim.Adam(model.parameters(), lr=1e-2)
loss_fn = nn.BCEWithLogitsLoss()
running = []
for i in range(300):
    x = torch.randn(64, 5)
    clean = (x[:, 0] - 0.5 * x[:, 1] > 0).float()
    flip = (torch.rand(64) < 0.3).float()
    y = (clean - flip).abs()
    loss = loss_fn(model(x).squeeze(1), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    running.append(loss.item())
    if i % 50 == 49:
        print("iter", i + 1, "loss", round(sum(running[-50:]) / 50, 4))
