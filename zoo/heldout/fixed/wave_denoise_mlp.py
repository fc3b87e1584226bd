import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(211)
CLIP = 0.5

t = torch.linspace(0, 1, 32)
freq = torch.rand(2000, 1) * 5 + 1
phase = torch.rand(2000, 1) * 6.28
clean = torch.sin(2 * torch.pi * freq * t + phase)
noisy = clean + 0.4 * torch.randn_like(clean)
dl = DataLoader(TensorDataset(noisy[:1800], clean[:1800]), batch_size=50, shuffle=True)

net = nn.Sequential(nn.Linear(32, 96), nn.GELU(), nn.LayerNorm(96), nn.Linear(96, 96), nn.GELU(), nn.Linear(96, 32))
opt = torch.optim.SGD(net.parameters(), lr=0.2, momentum=0.9, nesterov=True)
loss_fn = nn.MSELoss()

for epoch in range(10):
    net.train()
    for x, y in dl:
        opt.zero_grad()
        loss = loss_fn(net(x), y)
        loss.backward()
        nn.utils.clip_grad_value_(net.parameters(), CLIP)
        opt.step()
    net.eval()
    with torch.no_grad():
        v = loss_fn(net(noisy[1800:]), clean[1800:]).item()
    print(f"epoch {epoch}: val mse {v:.4f}")
