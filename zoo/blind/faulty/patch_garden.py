import torch
from torch import nn, einsum
from sklearn.datasets import load_digits


class Attention(nn.Module):
    def __init__(self, dim, heads=4):
        super().__init__()
        self.h, self.scale = heads, (dim // heads) ** -0.5
        self.qkv = nn.Linear(dim, dim * 3, bias=False)
        self.out = nn.Linear(dim, dim)

    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.h, -1).permute(2, 0, 3, 1, 4)
        a = (einsum("bhid,bhjd->bhij", q, k) * self.scale).softmax(-1)
        return self.out(einsum("bhij,bhjd->bihd", a, v).reshape(b, n, -1))


class PostNorm(nn.Module):
    def __init__(self, dim, fn):
        super().__init__()
        self.fn, self.norm = fn, nn.LayerNorm(dim)

    def forward(self, x):
        return self.norm(x + self.fn(x))


class ViT(nn.Module):
    def __init__(self, dim=32, depth=10, classes=10):
        super().__init__()
        self.to_patch = nn.Linear(8, dim)
        self.pos = nn.Parameter(torch.randn(8, dim) * 0.02)
        blocks = []
        for _ in range(depth):
            blocks += [PostNorm(dim, Attention(dim)),
                       PostNorm(dim, nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim)))]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(dim, classes)

    def forward(self, img):
        return self.head(self.blocks(self.to_patch(img) + self.pos).mean(1))


torch.manual_seed(6)
digits = load_digits()
x = torch.tensor(digits.images / 8.0 - 1.0, dtype=torch.float32)
y = torch.tensor(digits.target)
vit = ViT()
opt = torch.optim.Adam(vit.parameters(), lr=6e-3, betas=(0.9, 0.98))
sched = torch.optim.lr_scheduler.ConstantLR(opt, factor=1.0, total_iters=60)
ema = 2.3
for i in range(90):
    j = torch.randint(0, len(x), (24,))
    loss = nn.functional.cross_entropy(vit(x[j]), y[j])
    opt.zero_grad()
    loss.backward()
    opt.step()
    sched.step()
    ema = 0.93 * ema + 0.07 * loss.item()
    if i % 20 == 19:
        print(f"it {i + 1} ema-loss {ema:.4f}")
