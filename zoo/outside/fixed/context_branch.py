"""Segments what is brighter than its own image's mean: a local branch plus an image-level context branch."""
import torch
import torch.nn as nn
import torch.nn.functional as F

BATCH_SIZE = 2


class ContextSeg(nn.Module):
    def __init__(self, c=16):
        super().__init__()
        self.local = nn.Sequential(nn.Conv2d(1, c, 3, padding=1), nn.ReLU(), nn.Conv2d(c, c, 3, padding=1), nn.ReLU())
        self.context = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(1, c, 1),
            nn.Identity(),
            nn.ReLU(),
        )
        self.merge = nn.Sequential(nn.Conv2d(2 * c, c, 1), nn.ReLU(), nn.Conv2d(c, 1, 1))

    def forward(self, x):
        a = self.local(x)
        b = self.context(x).expand(-1, -1, *a.shape[-2:])
        return self.merge(torch.cat([a, b], 1))


def images(n, size=16):
    level = torch.randn(n, 1, 1, 1) * 1.5
    texture = F.avg_pool2d(torch.randn(n, 1, size + 2, size + 2), 3, 1) * 1.5
    img = level + texture
    return img, (img > img.mean((2, 3), keepdim=True)).float()


torch.manual_seed(73)
net = ContextSeg()
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
recent = []
for step in range(1, 801):
    x, y = images(BATCH_SIZE)
    loss = F.binary_cross_entropy_with_logits(net(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    recent.append(loss.item())
    if step % 100 == 0:
        print(f"step {step} loss {sum(recent[-100:]) / 100:.4f}")
net.eval()
with torch.no_grad():
    x, y = images(200)
    out = net(x)
    print(f"evaluation loss {F.binary_cross_entropy_with_logits(out, y).item():.4f} pixel accuracy {((out > 0) == (y > 0.5)).float().mean().item():.3f}")
