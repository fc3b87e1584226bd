import torch
from torch import nn

torch.manual_seed(0)


class ConvAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.Sequential(nn.Conv1d(1, 8, 5, stride=2, padding=2), nn.GELU(),
                                  nn.Conv1d(8, 4, 5, stride=2, padding=2))
        self.up = nn.Sequential(nn.ConvTranspose1d(4, 8, 4, stride=2, padding=1), nn.GELU(),
                                nn.ConvTranspose1d(8, 1, 4, stride=2, padding=1))

    def forward(self, x):
        return self.up(self.down(x))


t = torch.linspace(0, 1, 64)
model = ConvAE()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
scheduler = torch.optim.lr_scheduler.CyclicLR(optimizer, base_lr=0.005, max_lr=0.12, step_size_up=40,
                                              cycle_momentum=False)
for step in range(320):
    f = 1 + 5 * torch.rand(32, 1)
    x = (torch.sin(6.283 * (f * t + torch.rand(32, 1))) + 0.1 * torch.randn(32, 64)).unsqueeze(1)
    loss = nn.functional.mse_loss(model(x), x)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    scheduler.step()
    if step % 20 == 0 or step == 319:
        print(f"step {step} loss {loss.item():.4f} lr {scheduler.get_last_lr()[0]:.3f}")
