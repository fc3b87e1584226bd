import torch
from torch import nn

torch.manual_seed(88)
grid = torch.stack(torch.meshgrid(torch.linspace(-1, 1, 12), torch.linspace(-1, 1, 12), indexing="ij"))


def sketches(n):
    """soft discs and bars on a 12x12 canvas"""
    cx, cy, r = (torch.rand(3, n, 1, 1) * 1.2 - 0.6)
    disc = torch.sigmoid(12 * (0.45 - ((grid[0] - cx) ** 2 + (grid[1] - cy) ** 2).sqrt()))
    bar = torch.sigmoid(12 * (0.2 - (grid[0] * torch.cos(3 * r) + grid[1] * torch.sin(3 * r)).abs()))
    pick = torch.randint(0, 2, (n, 1, 1)).float()
    return (2 * (pick * disc + (1 - pick) * bar) - 0.6).unsqueeze(1)


squeeze = nn.Sequential(nn.Conv2d(1, 10, 4, 2, 1), nn.Mish(), nn.Conv2d(10, 20, 4, 2, 1), nn.Mish(),
                        nn.Flatten(), nn.Linear(180, 6))
expand = nn.Sequential(nn.Linear(6, 180), nn.Mish(), nn.Unflatten(1, (20, 3, 3)),
                       nn.ConvTranspose2d(20, 10, 4, 2, 1), nn.Mish(), nn.ConvTranspose2d(10, 1, 4, 2, 1))
opt_squeeze = torch.optim.SGD(squeeze.parameters(), lr=0.2, momentum=0.8)
opt_expand = torch.optim.SGD(expand.parameters(), lr=0.2, momentum=0.8)

window = []
for it in range(200):
    picture = sketches(24)
    cost = nn.functional.mse_loss(expand(squeeze(picture)), picture)
    opt_expand.zero_grad()
    cost.backward()
    opt_squeeze.step()
    opt_expand.step()
    window.append(cost.item())
    if it % 25 == 24:
        print("it", it + 1, "reconstruction", round(sum(window[-25:]) / 25, 4))
