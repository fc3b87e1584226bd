import torch
from sklearn.datasets import load_wine
from torch import nn

torch.manual_seed(0)
w = load_wine()
X = torch.tensor((w.data - w.data.mean(0)) / w.data.std(0), dtype=torch.float32)
y = torch.tensor(w.target)


class DropNet(nn.Module):
    def __init__(self, p=0.5):
        super().__init__()
        self.fc1 = nn.Linear(13, 64)
        self.drop1 = nn.Dropout(p)
        self.fc2 = nn.Linear(64, 64)
        self.drop2 = nn.Dropout(p)
        self.fc3 = nn.Linear(64, 3)

    def forward(self, x):
        x = self.drop1(torch.relu(self.fc1(x)))
        x = self.drop2(torch.relu(self.fc2(x)))
        return self.fc3(x)


net = DropNet()
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
criterion = nn.CrossEntropyLoss()
for step in range(250):
    idx = torch.randint(0, len(X), (16,))
    net.train()
    loss = criterion(net(X[idx]), y[idx])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 25 == 0 or step == 249:
        net.eval()
        with torch.no_grad():
            full = criterion(net(X), y).item()
        print(f"step {step} loss {loss.item():.4f} eval {full:.4f}")
