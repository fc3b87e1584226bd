import torch
from sklearn.datasets import make_blobs
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
pts, cls = make_blobs(800, centers=[[-4, -4], [4, 4]], cluster_std=1.2, random_state=0)
pts, cls = torch.tensor(pts).float(), torch.tensor(cls).float()


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(2, 32)
        self.hidden2 = nn.Linear(32, 32)
        self.score = nn.Linear(32, 1)

    def forward(self, x):
        x = F.relu(self.hidden(x))
        x = F.relu(self.hidden2(x))
        return self.score(x).squeeze(-1)


model = Classifier()
optimizer = torch.optim.Adam(model.parameters(), lr=6e-3)
for step in range(300):
    idx = torch.randint(0, len(pts), (64,))
    x, y = pts[idx], cls[idx]
    z = model(x)
    p = z.sigmoid()
    loss = -(y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 30 == 0 or step == 299:
        print(f"step {step} loss {loss.item():.6f}")
