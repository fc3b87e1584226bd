"""Learn an embedding where images of the same digit lie close together."""
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(3)
d = load_digits(n_class=5)
X = torch.tensor(d.data, dtype=torch.float32) / 16
Y = torch.tensor(d.target)


class Encoder(nn.Module):
    def __init__(self, dim=8):
        super().__init__()
        self.fc1 = nn.Linear(64, 64)
        self.fc2 = nn.Linear(64, dim)

    def forward(self, x):
        return self.fc2(F.leaky_relu(self.fc1(x), 0.1))


def distance(a, b):
    return (((a - b) ** 2).sum(dim=1) + 1e-8).sqrt()


encoder = Encoder()
opt = torch.optim.Adam(encoder.parameters(), lr=2e-3)
margin = 2.0
for step in range(300):
    i, j = torch.randint(0, len(X), (2, 32))
    dist = distance(encoder(X[i]), encoder(X[j]))
    same = (Y[i] == Y[j]).float()
    loss = (same * dist + (1 - same) * F.relu(margin - dist)).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 30 == 0 or step == 299:
        print(f"step {step:3d} contrastive loss {loss.item():.4f}")
