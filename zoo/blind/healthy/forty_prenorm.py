import torch
from torch import nn


class Sub(nn.Module):
    def __init__(self, d, depth):
        super().__init__()
        self.norm, self.fc, self.proj = nn.LayerNorm(d), nn.Linear(d, 2 * d), nn.Linear(2 * d, d)
        nn.init.normal_(self.fc.weight, std=d ** -0.5)
        nn.init.normal_(self.proj.weight, std=(2 * d) ** -0.5 / depth ** 0.5)
        nn.init.zeros_(self.proj.bias)

    def forward(self, x):
        return x + self.proj(nn.functional.gelu(self.fc(self.norm(x))))


class Deep(nn.Module):
    def __init__(self, depth=40, d=24):
        super().__init__()
        self.inp = nn.Linear(8, d)
        self.layers = nn.ModuleList(Sub(d, depth) for _ in range(depth))
        self.out = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, 4))

    def forward(self, x):
        x = self.inp(x)
        for layer in self.layers:
            x = layer(x)
        return self.out(x)


torch.manual_seed(40)
net = Deep()
opt = torch.optim.AdamW(net.parameters(), lr=2e-3)
warm = torch.optim.lr_scheduler.LambdaLR(opt, lambda s: min(1.0, (s + 1) / 20))
avg = []
for step in range(90):
    x = torch.randn(32, 8)
    y = (x[:, 0] > 0).long() * 2 + (x[:, 1] + x[:, 2] > 0).long()
    loss = nn.functional.cross_entropy(net(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    warm.step()
    avg.append(loss.item())
    if step % 15 == 14:
        print(step + 1, round(sum(avg[-15:]) / 15, 4))
