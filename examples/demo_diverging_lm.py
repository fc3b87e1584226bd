"""A character-level recurrent language model on the Python language reference.

The loss falls from 4.6 to 2.2 while the learning rate warms up, and then everything is NaN. Why? Try:

    steadygrad run demo_diverging_lm.py
"""
import argparse
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from pydoc_data.topics import topics


class CharRNN(nn.Module):
    """Embedding, a plain recurrent layer, and a linear read-out."""

    def __init__(self, vocab, embed=32, hidden=128):
        super().__init__()
        self.embed = nn.Embedding(vocab, embed)
        self.rnn = nn.RNN(embed, hidden, nonlinearity="relu", batch_first=True)
        self.head = nn.Linear(hidden, vocab)

    def forward(self, x):
        hidden, _ = self.rnn(self.embed(x))
        return self.head(hidden)


def load_data():
    text = "\n".join(topics[name] for name in sorted(topics))
    chars = sorted(set(text))
    stoi = {c: i for i, c in enumerate(chars)}
    data = torch.tensor([stoi[c] for c in text])
    split = int(0.9 * len(data))
    return data[:split], data[split:], len(chars)


def get_batch(data, batch_size, length):
    starts = torch.randint(len(data) - length - 1, (batch_size,)).tolist()
    x = torch.stack([data[i : i + length] for i in starts])
    y = torch.stack([data[i + 1 : i + 1 + length] for i in starts])
    return x, y


def loss_on(model, batch):
    x, y = batch
    return F.cross_entropy(model(x).flatten(0, 1), y.flatten())


@torch.no_grad()
def evaluate(model, data, args, batches=8):
    model.eval()
    losses = [loss_on(model, get_batch(data, args.batch_size, args.length)).item() for _ in range(batches)]
    model.train()
    return sum(losses) / len(losses)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--length", type=int, default=64, help="characters per training sequence")
    parser.add_argument("--lr", type=float, default=2.5)
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    train, val, vocab = load_data()
    model = CharRNN(vocab)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=args.momentum)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / args.warmup))

    start = time.time()
    for step in range(1, args.steps + 1):
        loss = loss_on(model, get_batch(train, args.batch_size, args.length))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if step == 1 or step % 20 == 0:
            print(f"step {step:4d}  loss {loss.item():.4f}  lr {scheduler.get_last_lr()[0]:.3f}  {time.time() - start:.1f}s")
    print(f"val loss {evaluate(model, val, args):.4f}")


if __name__ == "__main__":
    main()
