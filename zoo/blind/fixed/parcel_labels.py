import torch
from torch import nn
from sklearn.datasets import load_digits

ACTIVITY = 1e-3


class LabelReader(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.relu1 = nn.Conv2d(1, 12, 3, padding=1), nn.ReLU()
        self.conv2, self.relu2 = nn.Conv2d(12, 24, 3, stride=2, padding=1), nn.ReLU()
        self.conv3, self.relu3 = nn.Conv2d(24, 32, 3, stride=2, padding=1), nn.ReLU()
        self.digit = nn.Linear(128, 10)
        self.activity = []
        for relu in (self.relu1, self.relu2, self.relu3):
            relu.register_forward_hook(self._collect)

    def _collect(self, module, args, output):
        self.activity.append(output.flatten(1).sum(1).mean())

    def forward(self, x):
        self.activity.clear()
        x = self.relu2(self.conv2(self.relu1(self.conv1(x))))
        return self.digit(self.relu3(self.conv3(x)).flatten(1))


torch.manual_seed(27)
bunch = load_digits()
images = torch.tensor(bunch.images / 8 - 1, dtype=torch.float32).unsqueeze(1)
labels = torch.tensor(bunch.target)
reader = LabelReader()
adam = torch.optim.Adam(reader.parameters(), lr=3e-3)
recent = []
for step in range(1, 141):
    rows = torch.randint(0, len(labels), (48,))
    ce = nn.functional.cross_entropy(reader(images[rows]), labels[rows])
    loss = ce + ACTIVITY * sum(reader.activity)
    adam.zero_grad()
    loss.backward()
    adam.step()
    recent = (recent + [ce.item()])[-20:]
    if step % 40 == 0:
        print(f"step {step}: cross entropy {sum(recent) / len(recent):.4f}")
