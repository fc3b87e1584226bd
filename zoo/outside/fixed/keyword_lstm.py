"""Spots a two-symbol keyword anywhere in a stream."""
import torch
import torch.nn as nn

CLIP = 1.0
ALPHABET, STREAM = 6, 14


class Spotter(nn.Module):
    def __init__(self, hidden=40):
        super().__init__()
        self.embed = nn.Embedding(ALPHABET, 12)
        self.lstm = nn.LSTM(12, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 1)

    def forward(self, tokens):
        out, _ = self.lstm(self.embed(tokens))
        return self.head(out.max(dim=1).values).squeeze(-1)


def stream(n):
    x = torch.randint(0, ALPHABET, (n, STREAM))
    hit = ((x[:, :-1] == 2) & (x[:, 1:] == 4)).any(1)
    return x, hit.float()


def train(iterations=500):
    torch.manual_seed(29)
    net = Spotter()
    opt = torch.optim.SGD(net.parameters(), lr=0.2, momentum=0.9)
    loss_fn = nn.BCEWithLogitsLoss()
    for it in range(1, iterations + 1):
        x, y = stream(64)
        opt.zero_grad()
        loss = loss_fn(net(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), CLIP)
        opt.step()
        if it % 100 == 0:
            print(f"[{it}] loss={loss.item():.4f}")
    with torch.no_grad():
        x, y = stream(2000)
        print(f"accuracy={((net(x) > 0) == (y > 0.5)).float().mean().item():.3f}")


train()
