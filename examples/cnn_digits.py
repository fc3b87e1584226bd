"""Convolutional network on the 8x8 digits: batch norm, SGD with momentum and weight decay, cosine schedule, clipping."""
import argparse
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, Dataset


class Digits(Dataset):
    """Images normalised with the training mean and std; shifted by up to one pixel when augmenting."""

    def __init__(self, images, labels, augment=False):
        self.images = torch.as_tensor(images, dtype=torch.float32).unsqueeze(1)
        self.labels = torch.as_tensor(labels)
        self.augment = augment

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        x = self.images[i]
        if self.augment:
            dx, dy = torch.randint(0, 3, (2,)).tolist()
            x = F.pad(x, (1, 1, 1, 1), value=float(x.min()))[:, dy : dy + 8, dx : dx + 8]
        return x, self.labels[i]


def conv_block(c_in, c_out):
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)
    )


class Net(nn.Module):
    def __init__(self, width=24, classes=10):
        super().__init__()
        self.features = nn.Sequential(
            conv_block(1, width),
            conv_block(width, width),
            nn.MaxPool2d(2),
            conv_block(width, 2 * width),
            conv_block(2 * width, 2 * width),
            nn.MaxPool2d(2),
            conv_block(2 * width, 4 * width),
            nn.AdaptiveAvgPool2d(1),
        )
        self.classifier = nn.Linear(4 * width, classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


@torch.no_grad()
def test(model, loader, device):
    model.eval()
    loss, correct = 0.0, 0
    for x, y in loader:
        x, y = x.to(device), y.to(device)
        logits = model(x)
        loss += F.cross_entropy(logits, y, reduction="sum").item()
        correct += (logits.argmax(1) == y).sum().item()
    return loss / len(loader.dataset), correct / len(loader.dataset)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=None, help="stop after this many updates")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--clip", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    digits = load_digits()
    Xtr, Xte, ytr, yte = train_test_split(
        digits.images, digits.target, test_size=0.2, random_state=0, stratify=digits.target
    )
    mean, std = Xtr.mean(), Xtr.std()
    train_set, test_set = Digits((Xtr - mean) / std, ytr, augment=True), Digits((Xte - mean) / std, yte)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True)
    test_loader = DataLoader(test_set, batch_size=256)

    model = Net().to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(
        model.parameters(), lr=args.lr, momentum=args.momentum, weight_decay=args.weight_decay, nesterov=True
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs * len(train_loader))

    step, start = 0, time.time()
    for epoch in range(1, args.epochs + 1):
        model.train()
        total = batches = 0.0
        for x, y in train_loader:
            if step == args.steps:
                break
            optimizer.zero_grad()
            loss = criterion(model(x.to(device)), y.to(device))
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), max_norm=args.clip)
            optimizer.step()
            scheduler.step()
            total, batches, step = total + loss.item(), batches + 1, step + 1
        test_loss, accuracy = test(model, test_loader, device)
        print(
            f"epoch {epoch:2d}  train loss {total / max(1, batches):.4f}  test loss {test_loss:.4f}"
            f"  accuracy {accuracy:.4f}  lr {scheduler.get_last_lr()[0]:.4f}  {time.time() - start:.1f}s"
        )
        if step == args.steps:
            break


if __name__ == "__main__":
    main()
