"""A deep pre-norm residual MLP on tabular data: AdamW, warm-up and cosine, gradients accumulated over micro-batches."""
import argparse
import math

import torch
from sklearn.datasets import make_classification
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, TensorDataset


class ResidualBlock(nn.Module):
    def __init__(self, width, dropout):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        return x + self.dropout(self.down(F.gelu(self.up(self.norm(x)))))


class ResidualMLP(nn.Module):
    def __init__(self, inputs, classes, width=64, depth=16, dropout=0.1):
        super().__init__()
        self.stem = nn.Linear(inputs, width)
        self.blocks = nn.Sequential(*[ResidualBlock(width, dropout) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        for block in self.blocks:
            nn.init.normal_(block.down.weight, std=1.0 / math.sqrt(2 * width * depth))
            nn.init.zeros_(block.down.bias)

    def forward(self, x):
        return self.head(self.norm(self.blocks(self.stem(x))))


def load_data(seed):
    X, y = make_classification(
        n_samples=8000, n_features=40, n_informative=12, n_redundant=8, n_classes=6, class_sep=1.5, random_state=seed
    )
    Xtr, Xte, ytr, yte = train_test_split(X, y, test_size=0.2, random_state=seed)
    scaler = StandardScaler().fit(Xtr)
    tensors = [torch.tensor(scaler.transform(a), dtype=torch.float32) for a in (Xtr, Xte)]
    return TensorDataset(tensors[0], torch.tensor(ytr)), TensorDataset(tensors[1], torch.tensor(yte))


@torch.no_grad()
def evaluate(model, dataset, device):
    model.eval()
    x, y = (t.to(device) for t in dataset.tensors)
    logits = model(x)
    return F.cross_entropy(logits, y).item(), (logits.argmax(1) == y).float().mean().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=None, help="stop after this many optimizer steps")
    parser.add_argument("--micro-batch", type=int, default=32)
    parser.add_argument("--accumulate", type=int, default=4)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--warmup", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    train, test = load_data(args.seed)
    loader = DataLoader(train, batch_size=args.micro_batch, shuffle=True, drop_last=True)
    model = ResidualMLP(inputs=40, classes=6).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    total = args.epochs * (len(loader) // args.accumulate)

    def schedule(step):
        if step < args.warmup:
            return (step + 1) / args.warmup
        return 0.5 * (1 + math.cos(math.pi * (step - args.warmup) / max(1, total - args.warmup)))

    scheduler = LambdaLR(optimizer, schedule)

    step = 0
    for epoch in range(1, args.epochs + 1):
        model.train()
        running = seen = 0.0
        optimizer.zero_grad(set_to_none=True)
        for i, (x, y) in enumerate(loader, start=1):
            if step == args.steps:
                break
            loss = F.cross_entropy(model(x.to(device)), y.to(device), label_smoothing=0.05)
            (loss / args.accumulate).backward()
            running, seen = running + loss.item(), seen + 1
            if i % args.accumulate == 0:
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad(set_to_none=True)
                step += 1
        test_loss, accuracy = evaluate(model, test, device)
        print(
            f"epoch {epoch}  updates {step}  train loss {running / max(1, seen):.4f}"
            f"  test loss {test_loss:.4f}  accuracy {accuracy:.4f}"
        )
        if step == args.steps:
            break


if __name__ == "__main__":
    main()
