import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits

torch.manual_seed(0)


class GlyphNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, kernel_size=3)
        self.conv2 = nn.Conv2d(10, 20, kernel_size=3)
        self.fc1 = nn.Linear(20 * 4, 50)
        self.fc2 = nn.Linear(50, 10)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        x = x.view(-1, 80)
        x = F.relu(self.fc1(x))
        return F.log_softmax(self.fc2(x), dim=1)


digits = load_digits()
x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
y = torch.tensor(digits.target)
model = GlyphNet()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

for step in range(200):
    idx = torch.randint(0, 1500, (64,))
    optimizer.zero_grad()
    loss = F.nll_loss(model(x[idx]), y[idx])
    loss.backward()
    optimizer.step()
    if step % 20 == 0 or step == 199:
        model.eval()
        with torch.no_grad():
            acc = (model(x[1500:]).argmax(1) == y[1500:]).float().mean()
        model.train()
        print(f"step {step:3d} loss {loss.item():.4f} val acc {acc:.3f}")
