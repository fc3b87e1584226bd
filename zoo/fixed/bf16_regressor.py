import torch
from sklearn.datasets import load_diabetes
from torch import nn

torch.manual_seed(0)
PRECISION = torch.float32

data = load_diabetes()
x = torch.tensor((data.data - data.data.mean(0)) / data.data.std(0)).to(PRECISION)
y = torch.tensor((data.target - data.target.mean()) / data.target.std()).to(PRECISION)


class Regressor(nn.Module):
    def __init__(self, width=96):
        super().__init__()
        self.inp = nn.Linear(10, width)
        self.norm = nn.LayerNorm(width)
        self.mid = nn.Linear(width, width)
        self.out = nn.Linear(width, 1)

    def forward(self, x):
        x = self.norm(torch.nn.functional.gelu(self.inp(x)))
        x = torch.nn.functional.gelu(self.mid(x))
        return self.out(x).squeeze(1)


model = Regressor().to(PRECISION)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
for epoch in range(32):
    total = 0.0
    for idx in torch.randperm(len(x)).split(32):
        loss = ((model(x[idx]).float() - y[idx].float()) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(idx)
    if epoch % 4 == 3:
        print(f"epoch {epoch + 1} loss {total / len(x):.4f}")
