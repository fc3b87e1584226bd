import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import make_regression
from sklearn.preprocessing import StandardScaler
from torch.utils.data import TensorDataset, DataLoader

torch.manual_seed(171)
X, y = make_regression(1500, 14, n_informative=9, noise=8.0, random_state=4)
X = StandardScaler().fit_transform(X)
y = (y - y.mean()) / y.std() - 2.0          # log-demand relative to capacity
X, y = torch.tensor(X).float(), torch.tensor(y).float().unsqueeze(1)


class DemandNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(14, 64)
        self.fc2 = nn.Linear(64, 32)
        self.fc3 = nn.Linear(32, 1)

        self.act1, self.act2, self.act3 = nn.ReLU(), nn.ReLU(), nn.ReLU()

    def forward(self, x):
        x = self.act1(self.fc1(x))
        x = self.act2(self.fc2(x))
        return self.fc3(x)


model = DemandNet()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
train_dl = DataLoader(TensorDataset(X[:1200], y[:1200]), batch_size=60, shuffle=True)
for epoch in range(15):
    ep = 0.0
    for xb, yb in train_dl:
        optimizer.zero_grad()
        loss = F.mse_loss(model(xb), yb)
        loss.backward()
        optimizer.step()
        ep += loss.item() / len(train_dl)
    if epoch % 2 == 0:
        with torch.no_grad():
            rmse = F.mse_loss(model(X[1200:]), y[1200:]).sqrt().item()
        print(f"epoch {epoch} train mse {ep:.4f} valid rmse {rmse:.4f}")
