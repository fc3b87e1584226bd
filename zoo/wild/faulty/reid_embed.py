from argparse import Namespace

import torch
from torch import nn


def identities(n_id=6, per_id=60, dim=20, seed=7):
    g = torch.Generator().manual_seed(seed)
    centre = torch.randn(n_id, dim, generator=g)
    bend = torch.randn(n_id, dim, dim, generator=g) / dim ** 0.5
    z = torch.randn(n_id, per_id, dim, generator=g)
    x = centre[:, None] * 0.6 + torch.einsum("kpd,kde->kpe", z, bend)
    y = torch.arange(n_id)[:, None].expand(n_id, per_id)
    mix = torch.randperm(n_id * per_id, generator=g)
    return x.reshape(-1, dim)[mix], y.reshape(-1)[mix]


class ReID(nn.Module):
    def __init__(self, dim, n_id):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Linear(dim, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(),
            nn.Linear(64, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(),
        )
        self.neck = nn.Linear(64, 32)
        self.bnneck = nn.BatchNorm1d(32)
        self.classifier = nn.Linear(32, n_id, bias=False)

    def forward(self, x):
        return self.classifier(self.bnneck(self.neck(self.backbone(x))))


opt = Namespace(ims_per_batch=2, accumulate=8, lr=2e-3, epochs=8)
torch.manual_seed(7)
x, y = identities()
xtr, ytr, xte, yte = x[:288], y[:288], x[288:], y[288:]
net = ReID(20, 6)
adam = torch.optim.Adam(net.parameters(), lr=opt.lr)
ce = nn.CrossEntropyLoss()
for epoch in range(opt.epochs):
    net.train()
    order = torch.randperm(len(xtr))
    total, k = 0.0, 0
    for i in range(0, len(order), opt.ims_per_batch):
        rows = order[i:i + opt.ims_per_batch]
        loss = ce(net(xtr[rows]), ytr[rows])
        (loss / opt.accumulate).backward()
        k += 1
        if k % opt.accumulate == 0:
            adam.step()
            adam.zero_grad()
        total += loss.item()
    net.eval()
    with torch.no_grad():
        logits = net(xte)
        rank1 = (logits.argmax(1) == yte).float().mean()
    print(f"epoch {epoch + 1}: train {total / k:.4f}, query loss {ce(logits, yte).item():.4f}, rank-1 {rank1.item():.3f}")
