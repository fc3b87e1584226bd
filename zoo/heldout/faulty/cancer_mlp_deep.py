import numpy as np
import torch
from torch import nn
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

np.random.seed(1)
torch.manual_seed(1)

data = load_breast_cancer()
x_train, x_test, y_train, y_test = train_test_split(data.data, data.target, test_size=0.25, random_state=1)
sc = StandardScaler().fit(x_train)
x_train = torch.from_numpy(sc.transform(x_train)).float()
x_test = torch.from_numpy(sc.transform(x_test)).float()
y_train = torch.from_numpy(y_train).float()
y_test = torch.from_numpy(y_test).float()

N_HIDDEN = 8
WIDTH = 40


class Classifier(nn.Module):
    def __init__(self):
        super(Classifier, self).__init__()
        self.inp = nn.Linear(30, WIDTH)
        self.hidden = nn.ModuleList([nn.Linear(WIDTH, WIDTH) for _ in range(N_HIDDEN)])
        self.act = nn.Sigmoid()
        self.out = nn.Linear(WIDTH, 1)
        for l in [self.inp, *self.hidden]:
            nn.init.xavier_normal_(l.weight, gain=1.4)

    def forward(self, x):
        x = self.act(self.inp(x))
        for l in self.hidden:
            x = self.act(l(x))
        return self.out(x).squeeze(1)


clf = Classifier()
loss_fn = nn.BCEWithLogitsLoss()
optim = torch.optim.SGD(clf.parameters(), lr=0.05, momentum=0.9)
history = []
for epoch in range(16):
    idx = torch.randperm(len(x_train))
    for b in range(0, len(idx), 64):
        sel = idx[b:b + 64]
        optim.zero_grad()
        loss = loss_fn(clf(x_train[sel]), y_train[sel])
        loss.backward()
        optim.step()
    with torch.no_grad():
        pred = clf(x_test)
        history.append(loss_fn(pred, y_test).item())
        acc = ((pred > 0) == (y_test > 0.5)).float().mean().item()
    if (epoch + 1) % 4 == 0:
        print("Epoch", epoch + 1, "test loss %.4f acc %.3f" % (history[-1], acc))
