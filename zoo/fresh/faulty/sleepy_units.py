"""Multi-label tagging of synthetic sensor events with a ReLU network."""
import torch
from sklearn.datasets import make_multilabel_classification
from torch import nn


class Tagger(nn.Module):
    def __init__(self, n_in=20, n_out=5, width=64):
        super().__init__()
        self.inp = nn.Linear(n_in, width)
        self.mid = nn.Linear(width, width)
        self.out = nn.Linear(width, n_out)
        self.reset()

    def reset(self):
        nn.init.kaiming_uniform_(self.inp.weight, nonlinearity="relu")
        nn.init.kaiming_uniform_(self.mid.weight, nonlinearity="relu")
        nn.init.zeros_(self.inp.bias)
        nn.init.constant_(self.mid.bias, -8.0)

    def forward(self, x):
        return self.out(torch.relu(self.mid(torch.relu(self.inp(x)))))


torch.manual_seed(0)
x, y = make_multilabel_classification(1500, n_features=20, n_classes=5, random_state=0)
x = torch.tensor(x, dtype=torch.float32)
x = (x - x.mean(0)) / x.std(0)
y = torch.tensor(y, dtype=torch.float32)
model = Tagger()
opt = torch.optim.Adam(model.parameters(), lr=2e-3)
loss_fn = nn.BCEWithLogitsLoss()
for step in range(300):
    pick = torch.randint(0, 1500, (64,))
    loss = loss_fn(model(x[pick]), y[pick])
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 50 == 0:
        print(step, round(loss.item(), 4))
