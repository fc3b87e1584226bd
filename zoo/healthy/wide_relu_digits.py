import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
d = load_digits()
X = torch.tensor(d.data, dtype=torch.float32) / 4 - 2
y = torch.tensor(d.target)
model = nn.Sequential(
    nn.Linear(64, 256), nn.ReLU(),
    nn.Linear(256, 256), nn.ReLU(),
    nn.Linear(256, 10),
)
for layer in (model[0], model[2]):
    nn.init.constant_(layer.bias, -0.25)          # favours sparse codes
opt = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
loss_fn = nn.CrossEntropyLoss()
for step in range(250):
    idx = torch.randint(0, len(X), (64,))
    loss = loss_fn(model(X[idx]), y[idx])
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 25 == 0 or step == 249:
        with torch.no_grad():
            zeros = (model[:4](X[:200]) == 0).float().mean().item()
        print(f"step {step} loss {loss.item():.4f} zeros {zeros:.2f}")
