"""Predict disease progression one year after baseline."""
import torch
from sklearn.datasets import load_diabetes
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
frame = load_diabetes()
X = torch.tensor(frame.data / frame.data.std(0), dtype=torch.float32)
y = torch.tensor((frame.target - frame.target.mean()) / frame.target.std(), dtype=torch.float32).view(-1, 1)
loader = DataLoader(TensorDataset(X, y), batch_size=64, shuffle=True, drop_last=True)

net = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 1))
criterion = nn.MSELoss(reduction="mean")
optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)

for epoch in range(40):
    squared = 0.0
    for xb, yb in loader:
        pred = net(xb)
        loss = criterion(pred, yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        squared += (pred.detach() - yb).pow(2).mean().item()
    if epoch % 4 == 3:
        print(f"epoch {epoch + 1} mean squared error (loss) {squared / len(loader):.4f}")
