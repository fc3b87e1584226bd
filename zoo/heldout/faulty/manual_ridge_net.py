import torch
import torch.nn as nn

torch.manual_seed(281)

# seasonal demand: 1-D conv over 28 days -> next day
T = 1400
day = torch.arange(T).float()
series = torch.sin(2 * torch.pi * day / 7) + 0.5 * torch.sin(2 * torch.pi * day / 30) + 0.15 * torch.randn(T)
win = series.unfold(0, 29, 1)
X, y = win[:, :28].unsqueeze(1), win[:, 28:]
Xtr, ytr, Xva, yva = X[:1100], y[:1100], X[1100:], y[1100:]


class TCN(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv1d(1, 12, 3, dilation=1, padding=1)
        self.c2 = nn.Conv1d(12, 12, 3, dilation=2, padding=2)
        self.c3 = nn.Conv1d(12, 12, 3, dilation=4, padding=4)
        self.out = nn.Linear(12 * 28, 1)

    def forward(self, x):
        x = torch.relu(self.c1(x))
        x = torch.relu(self.c2(x)) + x
        x = torch.relu(self.c3(x)) + x
        return self.out(x.flatten(1))


model = TCN()
opt = torch.optim.Adam(model.parameters(), lr=3e-3)
LAMBDA = 2.0
for epoch in range(12):
    for idx in torch.randperm(len(Xtr)).split(55):
        fit = ((model(Xtr[idx]) - ytr[idx]) ** 2).mean()
        ridge = sum((p ** 2).sum() for p in model.parameters())
        loss = fit + LAMBDA * ridge
        opt.zero_grad()
        loss.backward()
        opt.step()
    with torch.no_grad():
        v = ((model(Xva) - yva) ** 2).mean().item()
    if epoch % 2 == 1:
        print(f"epoch {epoch + 1} loss {loss.item():.4f} fit {fit.item():.4f} val mse {v:.4f}")
