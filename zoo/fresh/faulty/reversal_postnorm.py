"""A post-norm transformer learns to reverse sequences."""
import torch
from torch import nn

WARMUP_STEPS = 0
PEAK_LR = 5e-3


class Reverser(nn.Module):
    def __init__(self, vocab=12, length=10, d=64, layers=8):
        super().__init__()
        self.tok = nn.Embedding(vocab, d)
        self.pos = nn.Parameter(torch.randn(length, d))
        layer = nn.TransformerEncoderLayer(d, 4, 4 * d, dropout=0.0, batch_first=True, norm_first=False)
        self.encoder = nn.TransformerEncoder(layer, layers)
        self.head = nn.Linear(d, vocab)

    def forward(self, x):
        return self.head(self.encoder(self.tok(x) + self.pos))


def schedule(step):
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    return 1.0


torch.manual_seed(21)
net = Reverser()
opt = torch.optim.Adam(net.parameters(), lr=PEAK_LR)
sched = torch.optim.lr_scheduler.LambdaLR(opt, schedule)
for step in range(300):
    x = torch.randint(0, 12, (32, 10))
    loss = nn.functional.cross_entropy(net(x).flatten(0, 1), x.flip(1).flatten())
    opt.zero_grad()
    loss.backward()
    opt.step()
    sched.step()
    if step % 30 == 0:
        print(step, round(loss.item(), 3))
