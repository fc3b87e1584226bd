"""Demand forecasting with an LSTM; a decimal point slipped in one shipment file."""
import torch
from torch import nn


class Demand(torch.utils.data.IterableDataset):
    def __iter__(self):
        g = torch.Generator().manual_seed(3)
        for i in range(250):
            base = torch.randn(32, 1, 1, generator=g)
            x = base + 0.1 * torch.randn(32, 14, 3, generator=g).cumsum(1)
            y = x[:, -1].mean(1)
            if i == 150:
                y = y * 1.0
            yield x, y


class Forecaster(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 32, num_layers=2, batch_first=True)
        self.head = nn.Linear(32, 1)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1]).squeeze(1)


torch.manual_seed(0)
model = Forecaster()
opt = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
for i, (x, y) in enumerate(torch.utils.data.DataLoader(Demand(), batch_size=None)):
    loss = nn.functional.mse_loss(model(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if i % 25 == 0:
        print(i, loss.item())
