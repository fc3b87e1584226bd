from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler
import numpy as np
import torch
from torch import nn, optim


class TabularModel(nn.Module):
    def __init__(self, n_in, layers=(128, 128, 64), p=0.6):
        super().__init__()
        mods = []
        for width in layers:
            mods += [nn.Linear(n_in, width), nn.ReLU(), nn.Dropout(p)]
            n_in = width
        self.layers = nn.Sequential(*mods)
        self.final = nn.Linear(n_in, 1)

    def forward(self, x):
        return self.final(self.layers(x)).squeeze(-1)


class Learner:
    def __init__(self, model, lr):
        self.model, self.loss_func = model, nn.BCEWithLogitsLoss()
        self.opt = optim.AdamW(model.parameters(), lr=lr, weight_decay=0.1)
        self.recorder = []

    def one_batch(self, xb, yb):
        loss = self.loss_func(self.model(xb), yb)
        loss.backward()
        self.opt.step()
        self.opt.zero_grad()
        self.recorder.append(loss.item())

    def fit(self, epochs, train, valid, bs=25):
        for e in range(epochs):
            self.model.train()
            for rows in torch.randperm(len(train[0])).split(bs):
                self.one_batch(train[0][rows], train[1][rows])
            self.model.eval()
            with torch.no_grad():
                out = self.model(valid[0])
                vl = self.loss_func(out, valid[1]).item()
                acc = ((out > 0).float() == valid[1]).float().mean().item()
            if e % 3 == 2:
                print(f"{e + 1:3d}  {np.mean(self.recorder[-15:]):.4f}  {vl:.4f}  {acc:.4f}")


torch.manual_seed(2021)
X, y = load_breast_cancer(return_X_y=True)
X = StandardScaler().fit_transform(X).astype(np.float32)
order = np.random.default_rng(0).permutation(len(X))
tr, va = order[:430], order[430:]
tensors = [(torch.tensor(X[i]), torch.tensor(y[i], dtype=torch.float32)) for i in (tr, va)]
print("epoch train valid accuracy")
Learner(TabularModel(X.shape[1]), 1e-3).fit(30, *tensors)
