import torch
import torch.nn as nn

torch.manual_seed(36)
EFFECTIVE, MICRO = 16, 16


class ConvBN(nn.Module):
    def __init__(self, i, o, stride=1):
        super().__init__()
        self.conv = nn.Conv1d(i, o, 5, stride=stride, padding=2, bias=False)
        self.norm = nn.BatchNorm1d(o)

    def forward(self, x):
        return nn.functional.leaky_relu(self.norm(self.conv(x)), 0.1)


class Monitor(nn.Module):
    """predict log-amplitude (wear) of a pump from its vibration trace"""

    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(ConvBN(1, 8), ConvBN(8, 16, 2), ConvBN(16, 16, 2))
        self.head = nn.Linear(16, 1)

    def forward(self, x):
        return self.head(self.backbone(x).abs().mean(2)).squeeze(1)


def traces(n):
    wear = torch.rand(n) * 2 - 1
    t = torch.arange(32).float()
    wave = torch.sin(t * (0.5 + torch.rand(n, 1)) + 6.28 * torch.rand(n, 1))
    return (wear.exp().unsqueeze(1) * wave + 0.05 * torch.randn(n, 32)).unsqueeze(1), wear


net = Monitor()
opt = torch.optim.AdamW(net.parameters(), lr=1e-2)
shown = []
for update in range(70):
    x, wear = traces(EFFECTIVE)
    opt.zero_grad()
    value = 0.0
    for xs, ws in zip(x.split(MICRO), wear.split(MICRO)):
        loss = (net(xs) - ws).pow(2).mean() * (len(xs) / EFFECTIVE)
        loss.backward()
        value += loss.item()
    opt.step()
    shown.append(value)
    if update % 10 == 9:
        print("update", update + 1, "mse", round(sum(shown[-10:]) / 10, 4))
