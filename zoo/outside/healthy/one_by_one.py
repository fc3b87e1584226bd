import torch
from sklearn.datasets import load_wine
from torch import nn

torch.manual_seed(21)
wine = load_wine()
X = torch.tensor((wine.data - wine.data.mean(0)) / wine.data.std(0)).float()
y = torch.tensor(wine.target)
idx = torch.randperm(len(y))
train, test = idx[:140], idx[140:]
net = nn.Sequential(nn.Linear(13, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 3))
opt = torch.optim.SGD(net.parameters(), lr=4e-3, momentum=0.8)
for epoch in range(8):
    losses = []
    for k in train[torch.randperm(len(train))]:
        loss = nn.functional.cross_entropy(net(X[k:k + 1]), y[k:k + 1])
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    print(f"epoch {epoch} mean {sum(losses) / len(losses):.4f} largest {max(losses):.3f}")
with torch.no_grad():
    print(f"accuracy {(net(X[test]).argmax(1) == y[test]).float().mean().item():.3f}")
