import torch
from torch import nn

torch.manual_seed(0)


class SineLSTM(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.lstm = nn.LSTM(input_size=1, hidden_size=hidden, batch_first=True)
        self.linear = nn.Linear(hidden, 1)

    def forward(self, x):
        y, _ = self.lstm(x)
        return self.linear(y)


def micro_batch(n=8, length=30):
    t = torch.arange(length + 1).float()
    s = torch.sin(t * (0.2 + 0.4 * torch.rand(n, 1)) + 6.28 * torch.rand(n, 1)).unsqueeze(-1)
    return s[:, :-1], s[:, 1:]


accumulate = 4
model = SineLSTM()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
criterion = nn.MSELoss()

optimizer.zero_grad()
window = 0.0
for i in range(1, 601):
    x, y = micro_batch()
    loss = criterion(model(x), y) / accumulate
    loss.backward()
    window += loss.item() * accumulate / 60
    if i % accumulate == 0:
        optimizer.step()
    if i % 60 == 0:
        print(f"micro-batch {i} loss {window:.4f}")
        window = 0.0
