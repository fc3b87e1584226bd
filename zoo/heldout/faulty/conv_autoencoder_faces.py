import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(11)


def blobs(n):
    """Random gaussian bumps on a 16x16 canvas."""
    g = torch.linspace(-1, 1, 16)
    yy, xx = torch.meshgrid(g, g, indexing="ij")
    img = torch.zeros(n, 16, 16)
    for _ in range(3):
        cx, cy = torch.rand(2, n, 1, 1) * 1.6 - 0.8
        img += torch.exp(-((xx - cx) ** 2 + (yy - cy) ** 2) / 0.08)
    return img.clamp(max=1.5).unsqueeze(1)


class UNetAE(nn.Module):
    def __init__(self, ch=12):
        super().__init__()
        self.e1 = nn.Conv2d(1, ch, 3, stride=2, padding=1)
        self.e2 = nn.Conv2d(ch, 2 * ch, 3, stride=2, padding=1)
        self.mid = nn.Conv2d(2 * ch, 2 * ch, 3, padding=1)
        self.d2 = nn.ConvTranspose2d(2 * ch, ch, 4, stride=2, padding=1)
        self.d1 = nn.ConvTranspose2d(ch, ch, 4, stride=2, padding=1)
        self.out = nn.Conv2d(ch, 1, 1)
        for m in self.modules():
            if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)):
                m.weight.data.normal_(0, 0.001)
                m.bias.data.zero_()

    def forward(self, x):
        h = F.leaky_relu(self.e1(x), 0.1)
        h = F.leaky_relu(self.e2(h), 0.1)
        h = F.leaky_relu(self.mid(h), 0.1)
        h = F.leaky_relu(self.d2(h), 0.1)
        h = F.leaky_relu(self.d1(h), 0.1)
        return self.out(h)


model = UNetAE()
opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
train = blobs(640)
for epoch in range(16):
    for xb in train[torch.randperm(len(train))].split(32):
        loss = F.mse_loss(model(xb), xb)
        opt.zero_grad()
        loss.backward()
        opt.step()
    if epoch % 3 == 0:
        print(f"[{epoch:02d}] mse={loss.item():.5f}")
print(f"final mse={F.mse_loss(model(train), train).item():.5f}")
