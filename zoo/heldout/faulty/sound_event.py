import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(191)

# spectrogram-like inputs, 4 event classes, gain differs strongly between recordings
n = 400
lab = torch.randint(0, 4, (n,))
mel = torch.arange(20).float()
env = torch.exp(-((mel[None] - (3 + 4.5 * lab[:, None])) ** 2) / 6)
spec = env * (0.7 + 0.6 * torch.rand(n, 1)) + 0.25 * torch.randn(n, 20)
train_dl = DataLoader(TensorDataset(spec[:300], lab[:300]), batch_size=2, shuffle=True)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.bn1 = nn.Linear(20, 48), nn.BatchNorm1d(48)
        self.fc2, self.bn2 = nn.Linear(48, 48), nn.BatchNorm1d(48)
        self.fc3 = nn.Linear(48, 4)

    def forward(self, x):
        x = F.relu(self.bn1(self.fc1(x)))
        x = F.relu(self.bn2(self.fc2(x)))
        return self.fc3(x)


net = Tagger()
opt = torch.optim.Adam(net.parameters(), lr=1e-3)
for epoch in range(3):
    net.train()
    tr = 0.0
    for x, t in train_dl:
        loss = F.cross_entropy(net(x), t)
        opt.zero_grad()
        loss.backward()
        opt.step()
        tr += loss.item()
    net.eval()
    with torch.no_grad():
        out = net(spec[300:])
        print(f"epoch {epoch} train {tr / len(train_dl):.4f} valid {F.cross_entropy(out, lab[300:]).item():.4f} "
              f"acc {(out.argmax(1) == lab[300:]).float().mean():.3f}")
