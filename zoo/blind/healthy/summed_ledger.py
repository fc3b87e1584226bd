import torch
import torch.nn as nn

torch.manual_seed(3)
N, B = 2000, 100
x = torch.randn(N, 8)
y = 10 * torch.relu(x[:, 0] + x[:, 1]) + 6 * x[:, 2] - 4 * x[:, 3] * x[:, 4] + torch.randn(N)

net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
sse = nn.MSELoss(reduction="sum")
opt = torch.optim.SGD(net.parameters(), lr=1e-5, momentum=0.9)
for epoch in range(10):
    total = 0.0
    for rows in torch.randperm(N).split(B):
        opt.zero_grad()
        loss = sse(net(x[rows]).squeeze(1), y[rows])
        loss.backward()
        opt.step()
        total += loss.item()
    print("epoch", epoch, "sum of squares per batch", round(total / (N / B), 1))
