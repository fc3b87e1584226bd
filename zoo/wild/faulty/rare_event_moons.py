import torch
import torch.nn as nn
from sklearn.datasets import make_moons


class Config(dict):
    __getattr__ = dict.__getitem__


config = Config(n=1500, noise=0.2, hidden=64, bias_prior=-10.0, lr=0.1, steps=700, batch=50)


class RareEventNet(nn.Module):
    """Binary classifier with a prior on the output bias, after the focal loss paper."""

    def __init__(self, c):
        super().__init__()
        self.fc_in = nn.Linear(2, c.hidden)
        self.act = nn.ReLU()
        self.fc_out = nn.Linear(c.hidden, 1)
        nn.init.kaiming_normal_(self.fc_in.weight)
        nn.init.constant_(self.fc_in.bias, c.bias_prior)
        nn.init.xavier_normal_(self.fc_out.weight)

    def forward(self, x):
        return self.fc_out(self.act(self.fc_in(x))).squeeze(1)


def accuracy(logits, y):
    return ((logits > 0) == (y > 0.5)).float().mean().item()


def main(c):
    torch.manual_seed(33)
    X, y = make_moons(c.n, noise=c.noise, random_state=1)
    X = torch.tensor((X - X.mean(0)) / X.std(0), dtype=torch.float32)
    y = torch.tensor(y, dtype=torch.float32)
    cut = int(0.8 * c.n)
    net = RareEventNet(c)
    opt = torch.optim.SGD(net.parameters(), lr=c.lr, momentum=0.9)
    sched = torch.optim.lr_scheduler.MultiStepLR(opt, [400, 600], gamma=0.3)
    for step in range(c.steps):
        rows = torch.randint(0, cut, (c.batch,))
        logits = net(X[rows])
        loss = nn.functional.binary_cross_entropy_with_logits(logits, y[rows])
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step()
        if step % 100 == 99:
            with torch.no_grad():
                out = net(X[cut:])
            val = nn.functional.binary_cross_entropy_with_logits(out, y[cut:]).item()
            print(f"step {step + 1:4d} train {loss.item():.4f} valid {val:.4f} acc {accuracy(out, y[cut:]):.3f}")


if __name__ == "__main__":
    main(config)
