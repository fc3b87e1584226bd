# denoising conv net, mixed precision written by hand: convs run in fp16, loss is an energy (sum of squares)
import torch
import torch.nn as nn

torch.manual_seed(71)
S = 24
grid = torch.linspace(0, 6.28, S)


def textures(n):
    f = torch.rand(n, 2, 1, 1) * 3
    img = torch.sin(f[:, 0] * grid[None, :, None] + f[:, 1] * grid[None, None])
    return (127.5 * (1 + img)).unsqueeze(1)


class Denoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(1, 8, 3, padding=1)
        self.c2 = nn.Conv2d(8, 8, 3, padding=1)
        self.c3 = nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, x):
        h = torch.relu(self.c1(x))
        h = torch.relu(self.c2(h))
        return x + self.c3(h)


net = Denoiser()
opt = torch.optim.Adam(net.parameters(), lr=4e-3)
clean = textures(256)
for it in range(70):
    c = clean[torch.randint(0, 256, (8,))]
    noisy = c + 20 * torch.randn_like(c)
    with torch.autocast("cpu", dtype=torch.float16):
        out = net(noisy / 255)
    energy = ((out.float() * 255 - c.float()) ** 2).sum((1, 2, 3))
    loss = energy.mean() / (S * S)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if it % 10 == 0 or it == 69:
        print(f"it {it} energy {loss.item():.3f}")
