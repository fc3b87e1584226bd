import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)


class SparseCNN(nn.Module):
    """Convolutional classifier with biases chosen for sparse activity."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(12, 24, 3, padding=1)
        self.relu2 = nn.ReLU()
        self.fc = nn.Linear(24 * 4, 10)
        nn.init.constant_(self.conv1.bias, 0.0)
        nn.init.constant_(self.conv2.bias, 0.0)

    def forward(self, x):
        x = self.pool(self.relu1(self.conv1(x)))
        x = self.pool(self.relu2(self.conv2(x)))
        return self.fc(x.flatten(1))


d = load_digits()
x = torch.tensor(d.images, dtype=torch.float32).unsqueeze(1)
x = (x - x.mean()) / x.std()
y = torch.tensor(d.target)

model = SparseCNN()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
criterion = nn.CrossEntropyLoss()
for epoch in range(6):
    total = 0.0
    for idx in torch.randperm(len(x)).split(64):
        optimizer.zero_grad()
        loss = criterion(model(x[idx]), y[idx])
        loss.backward()
        optimizer.step()
        total += loss.item() * len(idx)
    print(f"epoch {epoch}: loss {total / len(x):.4f}")
