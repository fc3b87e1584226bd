"""Self-attention over sets, trained in float16 with large raw features."""
import torch
from torch import nn


class SetAttention(nn.Module):
    def __init__(self, d=32):
        super().__init__()
        self.project = nn.Linear(6, d)
        self.query = nn.Linear(d, d)
        self.key = nn.Linear(d, d)
        self.value = nn.Linear(d, d)
        self.out = nn.Linear(d, 1)

    def forward(self, x):
        h = torch.tanh(self.project(x)) * 40
        scores = self.query(h) @ self.key(h).transpose(1, 2)
        pooled = (scores * scores).sum(-1, keepdim=True).sqrt()
        weight = (pooled / 100).softmax(1)
        return self.out((weight * self.value(h)).sum(1) / 40).squeeze(1)


def sets(n, dtype):
    x = torch.randn(n, 10, 6)
    return x.to(dtype), x.amax(dim=(1, 2)).to(dtype)


torch.manual_seed(0)
precision = torch.float32
model = SetAttention().to(precision)
opt = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(120):
    x, y = sets(64, precision)
    loss = (model(x) - y).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 20 == 0:
        print(step, loss.item())
