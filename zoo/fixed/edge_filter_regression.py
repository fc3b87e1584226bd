import torch
import torch.nn.functional as F
from torch import nn

torch.manual_seed(6)
MISSING = -999.0


class Estimator(nn.Module):
    """Estimates how strongly an image patch changes from left to right."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3)
        self.conv2 = nn.Conv2d(8, 8, 3)
        self.fc = nn.Linear(8 * 16, 32)
        self.out = nn.Linear(32, 1)

    def forward(self, x):
        x = F.relu(self.conv2(F.relu(self.conv(x))))
        return self.out(F.relu(self.fc(x.flatten(1)))).squeeze(1)


def prepare(n_batches):
    batches = []
    for k in range(n_batches):
        img = torch.randn(32, 1, 8, 8).cumsum(-1) * 0.4
        target = img[:, 0, :, 4:].mean((1, 2)) - img[:, 0, :, :4].mean((1, 2))
        if k == 110:
            target[3:7] = MISSING
        batches.append((img, target))
    return batches


model = Estimator()
optimizer = torch.optim.SGD(model.parameters(), lr=0.005, momentum=0.9)
window = []
for step, (img, target) in enumerate(prepare(220)):
    keep = target != MISSING
    img, target = img[keep], target[keep]
    loss = F.mse_loss(model(img), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    window.append(loss.item())
    if step % 20 == 19:
        print(f"step {step + 1} loss {sum(window[-10:]) / 10:.5g}")
