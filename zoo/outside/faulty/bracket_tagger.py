"""Tags every bracket of a random sequence with its kind and the kind of pair it forms with the one before."""
import torch
import torch.nn as nn


class Tagger(nn.Module):
    def __init__(self, vocab, emb, hid, tags):
        super().__init__()
        self.embed = nn.Embedding(vocab, emb)
        self.rnn = nn.GRU(emb, hid, num_layers=2, batch_first=True)
        self.proj = nn.Linear(hid, hid)
        self.out = nn.Linear(hid, tags)
        self.reset()

    def reset(self):
        for p in self.parameters():
            p.data.uniform_(-0.001, 0.001)

    def forward(self, tokens):
        h, _ = self.rnn(self.embed(tokens))
        return self.out(torch.tanh(self.proj(h)))


def batch(gen, size=24, length=12):
    kind = torch.randint(0, 4, (size, length), generator=gen)
    before = torch.cat([torch.zeros(size, 1, dtype=torch.long), kind[:, :-1]], 1)
    tag = kind + 4 * (before > 1)
    return kind, tag


def train(steps=240, lr=0.01):
    gen = torch.Generator().manual_seed(5)
    torch.manual_seed(5)
    model = Tagger(4, 24, 32, 8)
    opt = torch.optim.SGD(model.parameters(), lr=lr * 20, momentum=0.9)
    ce = nn.CrossEntropyLoss()
    for step in range(steps):
        x, y = batch(gen)
        loss = ce(model(x).reshape(-1, 8), y.reshape(-1))
        opt.zero_grad()
        loss.backward()
        opt.step()
        if step % 40 == 39:
            print(f"step {step + 1}: {loss.item():.4f}")
    return model


if __name__ == "__main__":
    train()
