import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(20)
d = load_digits()
x = torch.tensor(d.images / 8 - 1, dtype=torch.float32)[:, None]
y = torch.tensor(d.target)
net = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10),
)
opt = torch.optim.Adam(net.parameters(), lr=2e-3)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
skipped = 0
for epoch in range(6):
    total = 0.0
    for rows in torch.randperm(1500).split(50):
        with torch.autocast("cpu", dtype=torch.float16):
            logits = net(x[rows])
        loss = nn.functional.cross_entropy(logits.float(), y[rows])
        opt.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(opt)
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        before = scaler.get_scale()
        scaler.step(opt)
        scaler.update()
        skipped += scaler.get_scale() < before
        total += loss.item() / 30
    print(f"epoch {epoch} loss {total:.4f} scale {scaler.get_scale():.0f} skipped {skipped}")
with torch.no_grad():
    print(f"accuracy {(net(x[1500:]).argmax(1) == y[1500:]).float().mean().item():.3f}")
