import torch
from torch import nn

torch.manual_seed(0)


class Compressor(nn.Module):
    def __init__(self, length=48, code=3):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(length, 48), nn.Tanh(), nn.Linear(48, code))
        self.decoder = nn.Sequential(nn.Linear(code, 48), nn.Tanh(), nn.Linear(48, length))
        self.last_code = None

    def forward(self, x):
        code = self.encoder(x)
        self.last_code = code.detach()
        return self.decoder(code)


def waves(n=64, length=48):
    t = torch.linspace(0, 1, length)
    freq = 1.0 + 2.0 * torch.rand(n, 1)
    phase = 6.283 * torch.rand(n, 1)
    return torch.sin(6.283 * freq * t + phase)


model = Compressor()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
criterion = nn.MSELoss()
for step in range(400):
    x = waves()
    loss = criterion(model(x), x)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 40 == 0 or step == 399:
        spread = model.last_code.std().item()
        print(f"step {step} loss {loss.item():.4f} (code std {spread:.2f})")
