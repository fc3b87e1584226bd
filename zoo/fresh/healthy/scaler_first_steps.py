"""float16 autocast with a GradScaler that starts too high and skips its first steps."""
import torch
from torch import nn

torch.manual_seed(0)
x = torch.randn(512, 10)
y = (x[:, :3].sum(1, keepdim=True) * 0.7).sin()
model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
opt = torch.optim.Adam(model.parameters(), lr=2e-3)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0**22)
for step in range(200):
    pick = torch.randint(0, 512, (64,))
    with torch.autocast("cpu", dtype=torch.float16):
        out = model(x[pick])
    loss = nn.functional.mse_loss(out.float(), y[pick])
    opt.zero_grad()
    scaler.scale(loss).backward()
    scaler.unscale_(opt)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(opt)
    scaler.update()
print(loss.item(), scaler.get_scale())
