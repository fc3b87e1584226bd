import torch
import torch.nn as nn

torch.manual_seed(31)
BITS, SECRET = 14, [1, 4, 9, 11]


def bits(n):
    x = torch.randint(0, 2, (n, BITS)).float() * 2 - 1
    return x, (x[:, SECRET].prod(1) > 0).float()


net = nn.Sequential(nn.Linear(BITS, 128), nn.ReLU(), nn.Linear(128, 1))
opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
loss_fn = nn.BCEWithLogitsLoss()
for step in range(1, 1501):
    x, y = bits(64)
    loss = loss_fn(net(x).squeeze(1), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 100 == 0:
        print(f"step {step} loss {loss.item():.4f}")
