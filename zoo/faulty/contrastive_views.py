"""Self-supervised embedding of digit images: two noisy views of one image should agree."""
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
images = torch.tensor(load_digits().data, dtype=torch.float32) / 16
images = images - images.mean(0)
temperature = 0.0111


def augment(x):
    keep = (torch.rand_like(x) > 0.1).float()
    return x * keep + 0.1 * torch.randn_like(x)


encoder = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 32))
optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-3)
for step in range(250):
    x = images[torch.randint(0, len(images), (64,))]
    a = F.normalize(encoder(augment(x)), dim=1)
    b = F.normalize(encoder(augment(x)), dim=1)
    sim = a @ b.t() / temperature
    weights = torch.exp(sim)
    loss = -torch.log(weights.diag() / weights.sum(dim=1)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 25 == 0 or step == 249:
        print(f"step {step} loss {loss.item():.4f}")
