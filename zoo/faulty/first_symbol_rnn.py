"""Recall which symbol opened a long noisy sequence."""
import torch
from torch import nn

torch.manual_seed(0)
T, CLASSES = 150, 4


class Recall(nn.Module):
    def __init__(self, hidden=48):
        super().__init__()
        self.rnn = nn.RNN(CLASSES + 1, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, CLASSES)

    def forward(self, x):
        out, _ = self.rnn(x)
        return self.fc(out[:, -1])


def batch(n=32):
    label = torch.randint(0, CLASSES, (n,))
    x = torch.zeros(n, T, CLASSES + 1)
    x[torch.arange(n), 0, label] = 1.0
    x[:, 1:, CLASSES] = 0.3 * torch.randn(n, T - 1)
    return x, label


model = Recall()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
loss_fn = nn.CrossEntropyLoss()
for step in range(150):
    x, y = batch()
    loss = loss_fn(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 15 == 0 or step == 149:
        print(f"step {step} loss {loss.item():.4f}")
