# Converted from notebook: churn-tower-v7.ipynb
# %% imports
from collections import OrderedDict

import numpy as np
import torch
from sklearn.datasets import make_classification
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

# %% data
rs = np.random.RandomState(7)
X, y = make_classification(n_samples=3000, n_features=24, n_informative=10, n_redundant=4, n_clusters_per_class=3,
                           class_sep=1.3, random_state=7)
X = StandardScaler().fit_transform(X).astype(np.float32)
X_train, X_valid = torch.tensor(X[:2400]), torch.tensor(X[2400:])
y_train, y_valid = torch.tensor(y[:2400]).float(), torch.tensor(y[2400:]).float()

# %% model
torch.manual_seed(7)
N_HIDDEN = 7
UNITS = 40
tower = OrderedDict()
prev = X.shape[1]
for i in range(N_HIDDEN):
    tower[f"dense{i}"] = torch.nn.Linear(prev, UNITS)
    torch.nn.init.xavier_uniform_(tower[f"dense{i}"].weight)
    tower[f"act{i}"] = torch.nn.LeakyReLU()
    prev = UNITS


class ChurnNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.tower = torch.nn.Sequential(tower)
        self.logit = torch.nn.Linear(UNITS, 1)

    def forward(self, x):
        return self.logit(self.tower(x))[:, 0]


model = ChurnNet()

# %% train
criterion = torch.nn.BCEWithLogitsLoss()
opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)
for epoch in range(25):
    order = rs.permutation(len(X_train))
    train_loss = []
    for b in range(0, len(order), 80):
        rows = order[b:b + 80]
        opt.zero_grad()
        loss = criterion(model(X_train[rows]), y_train[rows])
        loss.backward()
        opt.step()
        train_loss.append(loss.item())
    with torch.no_grad():
        score = model(X_valid)
    auc = roc_auc_score(y_valid.numpy(), score.numpy())
    if epoch % 4 == 0:
        print("epoch %d loss %.4f valid_loss %.4f auc %.4f" % (epoch, np.mean(train_loss), criterion(score, y_valid), auc))

# %% result
print("final: valid loss %.4f auc %.4f" % (criterion(score, y_valid).item(), auc))
