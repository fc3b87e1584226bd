"""Repeat the input with a delay of three steps."""
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

torch.manual_seed(0)


class Echo(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 32, batch_first=True)
        self.head = nn.Linear(32, 4)

    def forward(self, x):
        return self.head(self.lstm(x)[0])


model = Echo()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
clipped = 0
for step in range(1, 251):
    sym = torch.randint(0, 4, (24, 20))
    x = nn.functional.one_hot(sym, 4).float()
    loss = nn.functional.cross_entropy(model(x)[:, 3:].flatten(0, 1), sym[:, :-3].flatten())
    optimizer.zero_grad()
    loss.backward()
    norm = clip_grad_norm_(model.parameters(), 0.2)
    clipped += int(norm > 0.2)
    optimizer.step()
    if step % 25 == 0:
        print(f"step {step} loss {loss.item():.4f} clipped {clipped}/{step}")
