"""Forty percent of the labels are random: the loss falls a little and stays high."""
import torch
from sklearn.datasets import make_classification
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x, y = make_classification(3000, 20, n_informative=5, flip_y=0.6, random_state=0)
ds = TensorDataset(torch.tensor(x).float(), torch.tensor(y))
model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 2))
opt = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
for epoch in range(6):
    for xb, yb in DataLoader(ds, batch_size=48, shuffle=True):
        loss = nn.functional.cross_entropy(model(xb), yb)
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(epoch, loss.item())
