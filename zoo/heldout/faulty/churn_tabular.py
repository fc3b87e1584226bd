import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import make_classification
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

torch.manual_seed(131)
X, y = make_classification(3000, 20, n_informative=8, weights=[0.85], random_state=9)
X, y = torch.tensor(X, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
w = torch.where(y[:2400] == 1, 1 / 0.15, 1 / 0.85)
sampler = WeightedRandomSampler(w, num_samples=1920, generator=torch.Generator().manual_seed(0))
loader = DataLoader(TensorDataset(X[:2400], y[:2400]), batch_size=64, sampler=sampler)


class ChurnNet(nn.Module):
    def __init__(self, dim, hidden=(48, 24), p=0.2):
        super().__init__()
        self.l1, self.l2, self.l3 = nn.Linear(dim, hidden[0]), nn.Linear(*hidden), nn.Linear(hidden[1], 1)
        self.bn = nn.BatchNorm1d(hidden[0])
        self.drop = nn.Dropout(p)

    def forward(self, x):
        x = self.drop(F.relu(self.bn(self.l1(x))))
        x = F.relu(self.l2(x))
        return torch.sigmoid(self.l3(x)).squeeze(1)


model = ChurnNet(20)
opt = torch.optim.AdamW(model.parameters(), lr=2e-3)
loss_fn = nn.BCEWithLogitsLoss()
for epoch in range(10):
    model.train()
    agg = 0.0
    for xb, yb in loader:
        loss = loss_fn(model(xb), yb)
        opt.zero_grad()
        loss.backward()
        opt.step()
        agg += loss.item()
    model.eval()
    with torch.no_grad():
        out = model(X[2400:])
        v = loss_fn(out, y[2400:]).item()
    print(f"epoch {epoch:02d} | train {agg / len(loader):.4f} | valid {v:.4f}")
