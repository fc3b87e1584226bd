"""LSTM adding problem, short sequences, clip near the median norm."""
import torch
import torch.nn as nn


class Adder(nn.Module):
    def __init__(self, hidden=48):
        super().__init__()
        self.lstm = nn.LSTM(2, hidden)
        self.linear = nn.Linear(hidden, 1)

    def forward(self, seq):
        out, (h, c) = self.lstm(seq)
        return self.linear(h[-1]).squeeze(-1)


def make(batch, T=20):
    value = torch.rand(T, batch)
    marker = torch.zeros(T, batch)
    first = torch.randint(0, T // 2, (batch,))
    second = torch.randint(T // 2, T, (batch,))
    cols = torch.arange(batch)
    marker[first, cols] = 1
    marker[second, cols] = 1
    return torch.stack([value, marker], -1), (value * marker).sum(0)


if __name__ == "__main__":
    torch.manual_seed(62)
    net = Adder()
    opt = torch.optim.Adam(net.parameters(), lr=8e-3)
    clipped = 0
    for step in range(1, 801):
        x, y = make(64)
        loss = nn.functional.mse_loss(net(x), y)
        opt.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(net.parameters(), max_norm=0.3)
        clipped += int(norm > 0.3)
        opt.step()
        if step % 100 == 0:
            print(f"step {step} mse {loss.item():.5f} clipped {clipped}/100")
            clipped = 0
    with torch.no_grad():
        x, y = make(1000)
        print(f"test mse {nn.functional.mse_loss(net(x), y).item():.5f}")
