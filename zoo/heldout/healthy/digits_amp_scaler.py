import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(1015)
d = load_digits()
X = torch.tensor(d.data, dtype=torch.float32) / 16
y = torch.tensor(d.target)
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0 ** 22, growth_interval=100)
crit = nn.CrossEntropyLoss()
for epoch in range(8):
    for idx in torch.randperm(1400).split(56):
        opt.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.float16):
            logits = model(X[idx])
            loss = crit(logits, y[idx])
        scaler.scale(loss).backward()
        scaler.unscale_(opt)
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        scaler.step(opt)
        scaler.update()
    with torch.no_grad():
        v = crit(model(X[1400:]), y[1400:]).item()
    print(f"epoch {epoch} scale {scaler.get_scale():.0f} train {loss.item():.4f} val {v:.4f}")
