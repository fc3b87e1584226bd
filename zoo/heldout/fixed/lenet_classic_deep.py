import torch, torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(5)
imgs = torch.tensor(load_digits().images).float()[:, None] / 8.0 - 1.0
labels = torch.tensor(load_digits().target)


def block(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1), nn.ReLU())


model = nn.Sequential(
    block(1, 8), block(8, 8), nn.AvgPool2d(2),
    block(8, 16), block(16, 16), nn.AvgPool2d(2),
    block(16, 24), block(24, 24),
    nn.Flatten(), nn.Linear(24 * 4, 10),
)

for m in model.modules():
    if isinstance(m, nn.Conv2d):
        nn.init.kaiming_normal_(m.weight)

opt = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
lossf = nn.CrossEntropyLoss()

model.train()
step = 0
for epoch in range(9):
    order = torch.randperm(1536)
    for k in range(0, 1536, 48):
        idx = order[k:k + 48]
        loss = lossf(model(imgs[idx]), labels[idx])
        opt.zero_grad(set_to_none=True)
        loss.backward()
        opt.step()
        step += 1
    with torch.no_grad():
        v = lossf(model(imgs[1536:]), labels[1536:])
    print(f"epoch {epoch} step {step} train {loss.item():.4f} val {v.item():.4f}")
