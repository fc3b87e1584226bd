import torch
import torch.nn as nn

torch.manual_seed(4)
V, L, D, LAYERS, PEAK, STEPS = 16, 10, 32, 10, 1.2e-2, 120


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(V, D)
        self.place = nn.Parameter(torch.randn(L, D) * 0.02)
        layer = nn.TransformerEncoderLayer(D, 4, dim_feedforward=64, dropout=0.0, batch_first=True, norm_first=False)
        self.encoder = nn.TransformerEncoder(layer, LAYERS)
        self.tags = nn.Linear(D, V)

    def forward(self, s):
        return self.tags(self.encoder(self.embed(s) + self.place))


def corpus():
    cipher = torch.randperm(V)
    while True:
        s = torch.randint(0, V, (16, L))
        yield s, cipher[s]


model = Tagger()
optimizer = torch.optim.Adam(model.parameters(), lr=PEAK, betas=(0.9, 0.98))
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: min((k + 1) / 60, (STEPS - k) / 40, 1.0))
avg = []
for k, (s, t) in zip(range(STEPS), corpus()):
    loss = nn.functional.cross_entropy(model(s).reshape(-1, V), t.reshape(-1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    avg.append(loss.item())
    if k % 25 == 24:
        print("step %3d  loss %.4f" % (k + 1, sum(avg[-25:]) / 25))
