"""Pretrain on digits 0-4, freeze the body, fine-tune a head on digits 5-9."""
import torch
import torch.nn as nn
from sklearn.datasets import load_digits


class Body(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten())

    def forward(self, x):
        return self.features(x)


class Classifier(nn.Module):
    def __init__(self, body, classes):
        super().__init__()
        self.body = body
        self.fc = nn.Linear(32 * 16, classes)

    def forward(self, x):
        return self.fc(self.body(x))


def freeze(module):
    for p in module.parameters():
        p.requires_grad = False
    module.eval()


def run(model, x, y, epochs, lr, tag, frozen=False):
    n = int(len(x) * 0.8)
    opt = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=lr)
    for epoch in range(epochs):
        model.train()
        if frozen:
            model.body.eval()
        for rows in torch.randperm(n).split(32):
            opt.zero_grad()
            loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
            loss.backward()
            opt.step()
        model.eval()
        with torch.no_grad():
            out = model(x[n:])
            acc = (out.argmax(1) == y[n:]).float().mean().item()
        print(f"{tag} epoch {epoch + 1} loss {loss.item():.4f} held-out acc {acc:.4f}")


if __name__ == "__main__":
    torch.manual_seed(4)
    d = load_digits()
    x = torch.tensor(d.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
    y = torch.tensor(d.target)
    low, high = y < 5, y >= 5
    body = Body()
    run(Classifier(body, 5), x[low], y[low], 4, 2e-3, "pretrain")
    freeze(body)
    run(Classifier(body, 5), x[high], y[high] - 5, 10, 2e-3, "finetune", frozen=True)
