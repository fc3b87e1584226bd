"""Contrastive representation learning with in-batch negatives."""
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
images = torch.tensor(load_digits().data, dtype=torch.float32) / 16


class Contrastive(nn.Module):
    def __init__(self, temperature=0.1):
        super().__init__()
        self.temperature = temperature
        self.encoder = nn.Sequential(nn.Linear(64, 96), nn.LayerNorm(96), nn.ReLU(), nn.Linear(96, 32))
        self.projector = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 16))

    def view(self, x):
        return x * (torch.rand_like(x) > 0.25) + 0.15 * torch.randn_like(x)

    def forward(self, x):
        a = F.normalize(self.projector(self.encoder(self.view(x))), dim=1)
        b = F.normalize(self.projector(self.encoder(self.view(x))), dim=1)
        logits = a @ b.t() / self.temperature
        target = torch.arange(len(x))
        return 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.t(), target))


model = Contrastive()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
for step in range(250):
    loss = model(images[torch.randint(0, len(images), (64,))])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 25 == 0 or step == 249:
        print(f"step {step} loss {loss.item():.4f}")
