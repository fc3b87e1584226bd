import torch
import torch.nn as nn


class TabularModel(nn.Module):
    def __init__(self, n_area=12, n_kind=4, n_cont=5):
        super().__init__()
        self.embed_area = nn.Embedding(n_area, 6)
        self.embed_kind = nn.Embedding(n_kind, 3)
        self.bn_cont = nn.BatchNorm1d(n_cont)
        self.mlp = nn.Sequential(nn.Linear(6 + 3 + n_cont, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, cats, conts):
        parts = [self.embed_area(cats[:, 0]), self.embed_kind(cats[:, 1]), self.bn_cont(conts)]
        return self.mlp(torch.cat(parts, 1)).squeeze(1)


class DataBunch:
    def __init__(self, n, bs):
        g = torch.Generator().manual_seed(55)
        self.bs = bs
        self.cats = torch.stack([torch.randint(0, 12, (n,), generator=g), torch.randint(0, 4, (n,), generator=g)], 1)
        self.conts = torch.randn(n, 5, generator=g)
        area_value = torch.randn(12, generator=g)
        kind_value = torch.randn(4, generator=g)
        self.rent = area_value[self.cats[:, 0]] + kind_value[self.cats[:, 1]] * self.conts[:, 0] + 0.5 * self.conts[:, 1]
        self.rent += 0.1 * torch.randn(n, generator=g)
        gaps = torch.arange(3320, 3323)
        self.rent[gaps] = -9999.0  # landlord did not say

    def __iter__(self):
        for i in range(0, len(self.rent), self.bs):
            sl = slice(i, i + self.bs)
            keep = torch.ones_like(self.rent[sl], dtype=torch.bool)
            yield self.cats[sl][keep], self.conts[sl][keep], self.rent[sl][keep]


torch.manual_seed(55)
data = DataBunch(6400, 40)
learner = TabularModel()
opt = torch.optim.SGD(learner.parameters(), lr=0.02, momentum=0.8, weight_decay=1e-4)
log = []
for i, (cats, conts, y) in enumerate(data):
    pred = learner(cats, conts)
    loss = (pred - y).abs().pow(1.5).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    log.append(loss.item())
    if i % 20 == 19:
        print("batch", i + 1, "loss (last 20)", round(sum(log[-20:]) / 20, 4))
