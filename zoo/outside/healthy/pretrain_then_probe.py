import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


def loop(name, params, lr, epochs, objective, n=1500, batch=50):
    opt = torch.optim.Adam(params, lr=lr)
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(n).split(batch):
            loss = objective(rows)
            opt.zero_grad()
            loss.backward()
            opt.step()
            total += loss.item() * batch / n
        if epoch % 3 == 0:
            print(f"{name} epoch {epoch} loss {total:.4f}")


torch.manual_seed(14)
d = load_digits()
x, y = torch.tensor(d.data / 16).float(), torch.tensor(d.target)
encoder = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 24), nn.ReLU())
decoder = nn.Sequential(nn.Linear(24, 96), nn.ReLU(), nn.Linear(96, 64))
head = nn.Linear(24, 10)

loop("denoise", [*encoder.parameters(), *decoder.parameters()], 2e-3, 9,
     lambda r: F.mse_loss(decoder(encoder(x[r] * (torch.rand_like(x[r]) > 0.3))), x[r]))
encoder.requires_grad_(False)
loop("probe", head.parameters(), 1e-2, 6, lambda r: F.cross_entropy(head(encoder(x[r])), y[r]))
encoder.requires_grad_(True)
loop("finetune", [*encoder.parameters(), *head.parameters()], 1e-3, 8, lambda r: F.cross_entropy(head(encoder(x[r])), y[r]))
with torch.no_grad():
    print(f"accuracy {(head(encoder(x[1500:])).argmax(1) == y[1500:]).float().mean().item():.3f}")
