import torch
from torch import nn

LENGTH, SYMBOLS, BATCH = 60, 5, 64


class Recall(nn.Module):
    def __init__(self, hidden=48):
        super().__init__()
        self.hidden = hidden
        self.inp = nn.Linear(SYMBOLS + 3, hidden)
        self.rec = nn.Linear(hidden, hidden, bias=False)
        self.read = nn.Linear(hidden, SYMBOLS)

    def forward(self, x):
        h = x.new_zeros(x.shape[0], self.hidden)
        for t in range(x.shape[1]):
            h = h + 0.05 * torch.tanh(self.inp(x[:, t]) + self.rec(h))
        return self.read(h)


def sample():
    symbol = torch.randint(SYMBOLS, (BATCH,))
    x = torch.zeros(BATCH, LENGTH, SYMBOLS + 3)
    x[:, 1:, SYMBOLS:] = 0.6 * torch.randn(BATCH, LENGTH - 1, 3)
    x[torch.arange(BATCH), 0, symbol] = 3.0
    return x, symbol


def run():
    torch.manual_seed(2)
    memory = Recall()
    optimizer = torch.optim.Adam(memory.parameters(), lr=1e-3)
    recent = []
    for step in range(1, 261):
        x, symbol = sample()
        loss = nn.functional.cross_entropy(memory(x), symbol)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(memory.parameters(), 1.0)
        optimizer.step()
        recent.append(loss.item())
        if step % 50 == 0:
            print(f"step {step} loss {sum(recent[-50:]) / 50:.4f}")


run()
