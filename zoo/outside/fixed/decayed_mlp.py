import math

import torch
from sklearn.datasets import load_digits
from torch import nn

BASE_LR = 1e-3
EPOCHS = 10


def schedule(epoch):
    cosine = 0.5 * (1 + math.cos(math.pi * epoch / EPOCHS))
    return cosine


class Residual(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, 2 * dim)
        self.fc2 = nn.Linear(2 * dim, dim)

    def forward(self, x):
        return x + self.fc2(torch.relu(self.fc1(self.norm(x))))


def main():
    torch.manual_seed(77)
    d = load_digits()
    X = torch.tensor(d.data / 8 - 1, dtype=torch.float32)
    y = torch.tensor(d.target)
    net = nn.Sequential(nn.Linear(64, 64), Residual(64), Residual(64), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(net.parameters(), lr=BASE_LR)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    for epoch in range(EPOCHS):
        losses = []
        for batch in torch.randperm(1500).split(50):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(X[batch]), y[batch])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        scheduler.step()
        print(f"epoch {epoch} loss {sum(losses) / len(losses):.4f}")
    acc = (net(X[1500:]).argmax(1) == y[1500:]).float().mean()
    print(f"accuracy {acc.item():.3f}")


main()
