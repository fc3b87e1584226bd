import torch
from torch import nn


class ResidualMLP(nn.Module):
    def __init__(self, n_in, width, blocks):
        super().__init__()
        self.stem = nn.Linear(n_in, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(blocks))
        self.head = nn.Linear(width, 1)

    def forward(self, x):
        x = self.stem(x)
        for norm, block in zip(self.norms, self.blocks):
            x = x + torch.relu(block(norm(x)))
        return self.head(x).squeeze(1)
