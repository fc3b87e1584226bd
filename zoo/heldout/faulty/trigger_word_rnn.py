# remember which of 4 trigger patterns opened a noisy recording
import torch
import torch.nn as nn

torch.manual_seed(99)
T, BATCH, C = 140, 32, 4
patterns = torch.randn(C, 10, 3)


def batch():
    y = torch.randint(0, C, (BATCH,))
    x = 0.25 * torch.randn(BATCH, T, 3)
    x[:, :10] += patterns[y]
    return x, y


class Spotter(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.rnn = nn.RNN(3, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, C)

    def forward(self, x):
        out, _ = self.rnn(x)
        return self.fc(out[:, -1])


model = Spotter()
opt = torch.optim.Adam(model.parameters(), lr=3e-3)
crit = nn.CrossEntropyLoss()
avg = None
for step in range(1, 301):
    x, y = batch()
    loss = crit(model(x), y)
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    avg = loss.item() if avg is None else 0.95 * avg + 0.05 * loss.item()
    if step % 50 == 0:
        print(f"step {step} loss(avg) {avg:.4f}")
