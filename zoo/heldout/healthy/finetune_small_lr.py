"""Stage 2 of a two-stage recipe: start from trained weights, tiny learning rate, new noise domain."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(1021)
d = load_digits()
X = torch.tensor(d.data, dtype=torch.float32) / 16
y = torch.tensor(d.target)
net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
crit = nn.CrossEntropyLoss()


def run(inputs, lr, epochs, name):
    opt = torch.optim.AdamW(net.parameters(), lr=lr)
    for epoch in range(epochs):
        for idx in torch.randperm(1400).split(40):
            loss = crit(net(inputs[idx]), y[idx])
            opt.zero_grad()
            loss.backward()
            opt.step()
        with torch.no_grad():
            v = crit(net(inputs[1400:]), y[1400:]).item()
        print(f"{name} epoch {epoch} train {loss.item():.4f} val {v:.4f}")


run(X, 5e-3, 4, "pretrain")
shifted = 0.8 * X.roll(1, dims=1) + 0.05 * torch.randn_like(X)
run(shifted, 3e-4, 8, "finetune")
