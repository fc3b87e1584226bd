import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
digits = load_digits()
gray = np.round(digits.images * 255 / 16).astype(np.uint8)      # 8-bit grayscale, as a camera would give


def to_tensor(batch):
    return torch.from_numpy(batch).float().unsqueeze(1) / 255


model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(128, 64), nn.ReLU(),
    nn.Linear(64, 10),
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
loss_fn = nn.CrossEntropyLoss()
rng = np.random.default_rng(0)

history = []
for step in range(250):
    pick = rng.integers(0, len(gray), 64)
    x, y = to_tensor(gray[pick]), torch.from_numpy(digits.target[pick])
    loss = loss_fn(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    history.append(loss.item())
    if (step + 1) % 25 == 0:
        print(f"step {step + 1} loss {np.mean(history[-25:]):.4f}")
