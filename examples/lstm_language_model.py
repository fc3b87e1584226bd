"""LSTM language model on Python source code, trained by truncated back-propagation through time.

Like the word-level example in pytorch/examples, but the corpus is the standard library's own source, split into tokens.
The hidden state is carried from one segment to the next and cut out of the graph in between.
"""
import argparse
import collections
import inspect
import math
import re
import tarfile
import textwrap
import time
import typing

import torch
from torch import nn, optim
from torch.nn.utils import clip_grad_norm_

SOURCES = [argparse, collections, inspect, re, tarfile, textwrap, typing]


def load_corpus(vocab_size):
    code = "\n".join(inspect.getsource(module) for module in SOURCES)
    tokens = re.findall(r"\w+|\n[ ]*|[^\w\s]", code)
    words = [w for w, _ in collections.Counter(tokens).most_common(vocab_size - 1)]
    index = {w: i + 1 for i, w in enumerate(words)}  # 0 is the unknown token
    return torch.tensor([index.get(t, 0) for t in tokens]), len(words) + 1


def batchify(data, batch_size):
    length = len(data) // batch_size
    return data[: length * batch_size].view(batch_size, length).t().contiguous()


class LanguageModel(nn.Module):
    def __init__(self, vocab, embed=64, hidden=128, layers=2, dropout=0.2):
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(vocab, embed)
        self.rnn = nn.LSTM(embed, hidden, layers, dropout=dropout)
        self.decoder = nn.Linear(hidden, vocab)
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)

    def forward(self, tokens, state):
        output, state = self.rnn(self.drop(self.encoder(tokens)), state)
        return self.decoder(self.drop(output)).flatten(0, 1), state

    def init_state(self, batch_size):
        weight = next(self.parameters())
        shape = (self.rnn.num_layers, batch_size, self.rnn.hidden_size)
        return weight.new_zeros(shape), weight.new_zeros(shape)


def detach(state):
    return tuple(s.detach() for s in state)


def segments(data, bptt):
    for i in range(0, len(data) - 1, bptt):
        length = min(bptt, len(data) - 1 - i)
        yield data[i : i + length], data[i + 1 : i + 1 + length].flatten()


@torch.no_grad()
def evaluate(model, criterion, data, bptt):
    model.eval()
    state, total = model.init_state(data.size(1)), 0.0
    for x, y in segments(data, bptt):
        logits, state = model(x, state)
        total += len(x) * criterion(logits, y).item()
    return total / (len(data) - 1)


def train_epoch(model, criterion, optimizer, data, args, done):
    model.train()
    state, total, seen, start = model.init_state(data.size(1)), 0.0, 0, time.time()
    for x, y in segments(data, args.bptt):
        if done == args.steps:
            break
        state = detach(state)
        model.zero_grad()
        logits, state = model(x, state)
        loss = criterion(logits, y)
        loss.backward()
        clip_grad_norm_(model.parameters(), args.clip)
        optimizer.step()
        done += 1
        total, seen = total + loss.item(), seen + 1
        if done == 1 or done % args.log_interval == 0:
            ms = 1000 * (time.time() - start) / seen
            print(f"  step {done:4d}  loss {total / seen:.3f}  ppl {math.exp(total / seen):8.2f}  {ms:.1f} ms/step")
            total, seen, start = 0.0, 0, time.time()
    return done


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300, help="stop after this many updates")
    parser.add_argument("--batch-size", type=int, default=20)
    parser.add_argument("--bptt", type=int, default=35)
    parser.add_argument("--vocab", type=int, default=1000)
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--log-interval", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1111)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    data, vocab = load_corpus(args.vocab)
    split = int(0.9 * len(data))
    train, val = batchify(data[:split], args.batch_size), batchify(data[split:], args.batch_size)
    print(f"{len(data):,} tokens, vocabulary {vocab}")

    model = LanguageModel(vocab)
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.Adam(model.parameters(), lr=args.lr)
    scheduler = optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)

    done, epoch = 0, 0
    while done < args.steps:
        epoch += 1
        done = train_epoch(model, criterion, optimizer, train, args, done)
        val_loss = evaluate(model, criterion, val, args.bptt)
        print(f"epoch {epoch}  lr {scheduler.get_last_lr()[0]:g}  val loss {val_loss:.3f}  val ppl {math.exp(val_loss):.2f}")
        scheduler.step()


if __name__ == "__main__":
    main()
