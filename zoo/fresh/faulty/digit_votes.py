"""Digits by an LSTM over image rows; the model returns probabilities."""
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class RowReader(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 48, batch_first=True)
        self.fc = nn.Linear(48, 10)
        self.prob = nn.Softmax(dim=-1)

    def forward(self, x):
        _, (h, _) = self.lstm(x)
        return self.prob(self.fc(h[-1]))


torch.manual_seed(0)
d = load_digits()
ds = TensorDataset(torch.tensor(d.images).float() / 16, torch.tensor(d.target))
model = RowReader()
loss_fn = nn.NLLLoss()
opt = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(8):
    seen = right = 0
    for xb, yb in DataLoader(ds, batch_size=64, shuffle=True):
        p = model(xb)
        loss = loss_fn(p, yb)
        opt.zero_grad()
        loss.backward()
        opt.step()
        right += (p.argmax(1) == yb).sum().item()
        seen += len(yb)
    print(epoch, f"loss {loss.item():.3f} acc {right / seen:.3f}")
