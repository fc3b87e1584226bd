# The adding problem with a rectified recurrent cell.
import numpy as np
import torch
from torch import nn


class Config:
    hidden = 48
    seq_len = 100
    batch = 32
    iters = 500
    lr = 5e-4
    log_every = 50
    seed = 9


def adding_batch(rng, c):
    vals = rng.random((c.seq_len, c.batch, 1)).astype(np.float32)
    mask = np.zeros_like(vals)
    for b in range(c.batch):
        i, j = rng.choice(c.seq_len, 2, replace=False)
        mask[i, b] = mask[j, b] = 1
    target = (vals * mask).sum(0)
    return torch.from_numpy(np.concatenate([vals * mask, mask], -1)), torch.from_numpy(target)


class RectifiedRNN(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.cell = nn.RNNCell(2, n, nonlinearity="relu")
        self.readout = nn.Linear(n, 1)
        nn.init.normal_(self.cell.weight_ih, std=0.05)
        nn.init.zeros_(self.cell.bias_ih)
        nn.init.zeros_(self.cell.bias_hh)
        with torch.no_grad():
            self.cell.weight_hh.copy_(torch.eye(n))
        self.n = n

    def forward(self, x):
        h = x.new_zeros(x.shape[1], self.n)
        for t in range(x.shape[0]):
            h = self.cell(x[t], h)
        return self.readout(h)


def train(c):
    torch.manual_seed(c.seed)
    rng = np.random.default_rng(c.seed)
    model = RectifiedRNN(c.hidden)
    opt = torch.optim.SGD(model.parameters(), lr=c.lr, momentum=0.9)
    recent = []
    for it in range(1, c.iters + 1):
        x, y = adding_batch(rng, c)
        loss = nn.functional.mse_loss(model(x), y)
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        opt.step()
        recent.append(loss.item())
        if it % c.log_every == 0:
            print(f"iter {it}: mse {np.mean(recent[-c.log_every:]):.4f}   (predicting the mean gives 0.167)")


if __name__ == "__main__":
    train(Config())
