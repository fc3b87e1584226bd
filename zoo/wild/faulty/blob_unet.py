"""Mini U-Net for blob segmentation."""
import torch
import torch.nn as nn
import torch.nn.functional as F


def double_conv(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.GroupNorm(4, o), nn.ReLU(inplace=True),
                         nn.Conv2d(o, o, 3, padding=1), nn.GroupNorm(4, o), nn.ReLU(inplace=True))


class UNet(nn.Module):
    def __init__(self, base=8):
        super().__init__()
        self.down1 = double_conv(1, base)
        self.down2 = double_conv(base, 2 * base)
        self.mid = double_conv(2 * base, 2 * base)
        self.up2 = double_conv(4 * base, base)
        self.up1 = double_conv(2 * base, base)
        self.head = nn.Conv2d(base, 1, 1)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        c = self.mid(F.max_pool2d(b, 2))
        b = self.up2(torch.cat([F.interpolate(c, scale_factor=2), b], 1))
        a = self.up1(torch.cat([F.interpolate(b, scale_factor=2), a], 1))
        return torch.sigmoid(self.head(a))


class BlobDataset(torch.utils.data.IterableDataset):
    def __init__(self, size=16, count=640, seed=0):
        self.size, self.count, self.seed = size, count, seed

    def __iter__(self):
        g = torch.Generator().manual_seed(self.seed)
        self.seed += 1
        yy, xx = torch.meshgrid(torch.arange(self.size), torch.arange(self.size), indexing="ij")
        for _ in range(self.count):
            cy, cx = torch.randint(3, self.size - 3, (2,), generator=g)
            r = 1.2 + 2 * torch.rand(1, generator=g)
            mask = ((yy - cy) ** 2 + (xx - cx) ** 2 < r ** 2).float()
            img = mask * 1.2 + 0.5 * torch.randn(self.size, self.size, generator=g)
            yield img[None], mask[None]


def dice(pred, mask):
    return (2 * (pred * mask).sum() / (pred.sum() + mask.sum()).clamp(min=1)).item()


def main():
    torch.manual_seed(0)
    net = UNet()
    loss_fn = nn.BCEWithLogitsLoss()
    opt = torch.optim.Adam(net.parameters(), lr=5e-3)
    data = BlobDataset()
    for epoch in range(8):
        total, n = 0.0, 0
        for img, mask in torch.utils.data.DataLoader(data, batch_size=16):
            loss = loss_fn(net(img), mask)
            opt.zero_grad()
            loss.backward()
            opt.step()
            total, n = total + loss.item(), n + 1
        print(f"epoch {epoch + 1}  loss {total / n:.4f}")
    net.eval()
    img, mask = next(iter(torch.utils.data.DataLoader(BlobDataset(seed=999, count=200), batch_size=200)))
    with torch.no_grad():
        out = net(img)
    print(f"validation loss {loss_fn(out, mask).item():.4f}  dice {dice((out > 0).float(), mask):.4f}")


if __name__ == "__main__":
    main()
