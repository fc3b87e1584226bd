import torch
import torch.nn as nn
from sklearn.datasets import make_friedman1
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(31)
X, y = make_friedman1(n_samples=1600, n_features=12, noise=0.5, random_state=2)
X = StandardScaler().fit_transform(X)
y = (y - y.mean()) / y.std()
X, y = torch.tensor(X, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)[:, None]
train = DataLoader(TensorDataset(X[:1280], y[:1280]), batch_size=32, shuffle=True)

EPOCHS = 8
model = nn.Sequential(
    nn.Linear(12, 96), nn.LeakyReLU(0.05),
    nn.Linear(96, 96), nn.LeakyReLU(0.05),
    nn.Linear(96, 96), nn.LeakyReLU(0.05),
    nn.Linear(96, 1),
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
scheduler = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, max_lr=1.5, steps_per_epoch=len(train), epochs=EPOCHS, pct_start=0.4, cycle_momentum=False,
    div_factor=200,
)
mse = nn.MSELoss()

for epoch in range(EPOCHS):
    model.train()
    acc = 0.0
    for xb, yb in train:
        optimizer.zero_grad()
        loss = mse(model(xb), yb)
        loss.backward()
        optimizer.step()
        scheduler.step()
        acc += loss.item()
    model.eval()
    with torch.no_grad():
        val = mse(model(X[1280:]), y[1280:]).item()
    print(f"{epoch}: lr={scheduler.get_last_lr()[0]:.4f} train={acc / len(train):.4f} val={val:.4f}")
