import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(4)

# integrate a noisy velocity signal into a position with an IRNN (Le, Jaitly, Hinton 2015)
N, T = 640, 200
vel = torch.randn(N, T, 1) * 0.5 + 0.3 * torch.randn(N, 1, 1)
pos = vel.sum(1) / T ** 0.5 / 2
loader = DataLoader(TensorDataset(vel[:512], pos[:512]), batch_size=32, shuffle=True, drop_last=True)


class IRNN(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.rnn = nn.RNN(1, hidden, nonlinearity="relu", batch_first=True)
        self.out = nn.Linear(hidden, 1)
        nn.init.eye_(self.rnn.weight_hh_l0)
        nn.init.normal_(self.rnn.weight_ih_l0, std=0.05)
        nn.init.zeros_(self.rnn.bias_hh_l0)
        nn.init.zeros_(self.rnn.bias_ih_l0)

    def forward(self, x):
        o, h = self.rnn(x)
        return self.out(h[-1])


model = IRNN()
optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
for epoch in range(10):
    total, n = 0.0, 0
    for x, t in loader:
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), t)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        total += loss.item()
        n += 1
    with torch.no_grad():
        val = F.mse_loss(model(vel[512:]), pos[512:]).item()
    print(f"Epoch {epoch + 1}: train {total / n:.4f}  val {val:.4f}")
