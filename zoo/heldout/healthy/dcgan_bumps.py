import torch
import torch.nn as nn

torch.manual_seed(1002)
S = 8
g = torch.arange(S).float()


def real(n):
    c = torch.rand(n, 2) * 4 + 1.5
    d = (g[None, :, None] - c[:, :1, None]) ** 2 + (g[None, None] - c[:, 1:, None]) ** 2
    return (2 * torch.exp(-d / 2.5) - 1).unsqueeze(1)


netG = nn.Sequential(
    nn.ConvTranspose2d(16, 32, 2, 1, 0, bias=False), nn.BatchNorm2d(32), nn.ReLU(True),
    nn.ConvTranspose2d(32, 16, 4, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(True),
    nn.ConvTranspose2d(16, 1, 4, 2, 1, bias=False), nn.Tanh())
netD = nn.Sequential(
    nn.Conv2d(1, 16, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True),
    nn.Conv2d(16, 32, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True),
    nn.Conv2d(32, 1, 2, 1, 0, bias=False), nn.Flatten(0))
for m in [*netG.modules(), *netD.modules()]:
    if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.xavier_normal_(m.weight)

criterion = nn.BCEWithLogitsLoss()
optD = torch.optim.Adam(netD.parameters(), lr=1e-3, betas=(0.5, 0.999))
optG = torch.optim.Adam(netG.parameters(), lr=8e-4, betas=(0.5, 0.999))
for i in range(260):
    x, z = real(64), torch.randn(64, 16, 1, 1)
    fake = netG(z)
    netD.zero_grad()
    errD = criterion(netD(x), torch.full((64,), 0.9)) + criterion(netD(fake.detach()), torch.zeros(64))
    errD.backward()
    optD.step()
    netG.zero_grad()
    errG = criterion(netD(fake), torch.ones(64))
    errG.backward()
    optG.step()
    if i % 50 == 0 or i == 259:
        gap = (fake.mean((0, 1)) - x.mean((0, 1))).abs().mean().item()
        print(f"[{i}/260] Loss_D {errD.item():.4f} Loss_G {errG.item():.4f} mean-image gap {gap:.3f}")
