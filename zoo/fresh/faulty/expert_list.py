"""A soft mixture of experts for digits."""
import torch
from sklearn.datasets import load_digits
from torch import nn


class SoftMoE(nn.Module):
    def __init__(self, n_experts=4, width=32):
        super().__init__()
        self.stem = nn.Linear(64, width)
        self.gate = nn.Linear(width, n_experts)
        self.experts = [nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)) for _ in range(n_experts)]
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        h = torch.relu(self.stem(x))
        weight = self.gate(h).softmax(1)
        mixed = sum(weight[:, i : i + 1] * expert(h) for i, expert in enumerate(self.experts))
        return self.head(mixed)


torch.manual_seed(0)
d = load_digits()
x, y = torch.tensor(d.data).float() / 16, torch.tensor(d.target)
model = SoftMoE()
opt = torch.optim.Adam(model.parameters(), lr=3e-3)
for step in range(200):
    pick = torch.randint(0, len(x), (64,))
    loss = nn.functional.cross_entropy(model(x[pick]), y[pick])
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 50 == 0:
        print(step, round(loss.item(), 4))
