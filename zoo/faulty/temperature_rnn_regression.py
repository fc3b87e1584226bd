import math
import warnings

import torch
import torch.nn.functional as F
from torch import nn

warnings.filterwarnings("ignore")
torch.manual_seed(0)


class TempRNN(nn.Module):
    def __init__(self, hidden=24):
        super().__init__()
        self.rnn = nn.RNN(1, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, 1)

    def forward(self, x):
        out, _ = self.rnn(x)
        return self.fc(out[:, -1])


t = torch.arange(3000).float()
temp = torch.sin(2 * math.pi * t / 24) + 0.4 * torch.sin(2 * math.pi * t / 200) + 0.1 * torch.randn(3000)
temp = (temp - temp.mean()) / temp.std()

model = TempRNN()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for step in range(250):
    i = torch.randint(0, 3000 - 17, (48,))
    window = torch.stack([temp[k:k + 16] for k in i]).unsqueeze(-1)
    target = temp[i + 16]
    loss = F.mse_loss(model(window), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 25 == 0 or step == 249:
        print(f"step {step}: loss {loss.item():.4f}")
