# sanity check from the "recipe for training neural networks": overfit a single batch to zero
import torch
from torch import nn

torch.manual_seed(1014)
x, y = torch.randn(16, 3, 8, 8), torch.randint(0, 5, (16,))
net = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, stride=2, padding=1), nn.ReLU(),
                    nn.Flatten(), nn.Linear(256, 5))
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
for i in range(300):
    loss = nn.functional.cross_entropy(net(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if i % 30 == 0 or i == 299:
        print(f"{i}: {loss.item():.6f}")
