"""An Elman network must recall the first token of a long sequence."""
import torch
from torch import nn

LENGTH = 160
VOCAB = 6


class Recall(nn.Module):
    def __init__(self, hidden=48):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, 16)
        self.rnn = nn.RNN(16, hidden, batch_first=True)
        self.answer = nn.Linear(hidden, VOCAB)

    def forward(self, tokens):
        out, _ = self.rnn(self.embed(tokens))
        return self.answer(out[:, -1])


def make_batch(n, gen):
    tokens = torch.randint(0, VOCAB, (n, LENGTH), generator=gen)
    return tokens, tokens[:, 0]


def main():
    torch.manual_seed(0)
    gen = torch.Generator().manual_seed(1)
    model = Recall()
    opt = torch.optim.Adam(model.parameters(), lr=2e-3)
    for step in range(250):
        x, y = make_batch(48, gen)
        loss = nn.functional.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        if step % 50 == 0:
            print(step, round(loss.item(), 3))
    print("last", round(loss.item(), 3))


if __name__ == "__main__":
    main()
