import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(8)
d = load_digits()
x = torch.tensor(d.data / 8 - 1, dtype=torch.float32)
clean = torch.tensor(d.target)
given = torch.where(torch.rand(len(clean)) < 0.35, torch.randint(0, 10, (len(clean),)), clean)
model = nn.Sequential(
    nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10)
)
opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
for epoch in range(20):
    model.train()
    total = 0.0
    for rows in torch.randperm(1400).split(50):
        loss = nn.functional.cross_entropy(model(x[rows]), given[rows])
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item() / 28
    if epoch % 4 == 3:
        model.eval()
        with torch.no_grad():
            acc = (model(x[1400:]).argmax(1) == clean[1400:]).float().mean().item()
        print(f"epoch {epoch + 1} loss {total:.3f} accuracy on clean labels {acc:.3f}")
