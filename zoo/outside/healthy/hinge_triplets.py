import torch
import torch.nn as nn
from sklearn.datasets import load_digits

torch.manual_seed(25)
d = load_digits()
x, y = torch.tensor(d.data / 16).float(), torch.tensor(d.target)
members = [torch.nonzero(y[:1400] == c).flatten() for c in range(10)]
net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
loss_fn = nn.TripletMarginWithDistanceLoss(distance_function=lambda a, b: 1 - nn.functional.cosine_similarity(a, b), margin=0.3)
opt = torch.optim.Adam(net.parameters(), lr=1e-3)


def triplets(n=32):
    a, p, q = [], [], []
    for _ in range(n):
        c, o = torch.randperm(10)[:2].tolist()
        i = torch.randint(0, len(members[c]), (2,))
        a.append(members[c][i[0]])
        p.append(members[c][i[1]])
        q.append(members[o][torch.randint(0, len(members[o]), ())])
    return torch.stack(a), torch.stack(p), torch.stack(q)


zero = 0
for step in range(1, 501):
    a, p, q = triplets()
    loss = loss_fn(net(x[a]), net(x[p]), net(x[q]))
    opt.zero_grad()
    loss.backward()
    opt.step()
    zero += loss.item() == 0.0
    if step % 100 == 0:
        print(f"step {step} loss {loss.item():.4f} batches without loss so far {zero}")
with torch.no_grad():
    e = nn.functional.normalize(net(x), dim=1)
    near = (e[1400:] @ e[:1400].T).argmax(1)
    print(f"nearest-neighbour accuracy {(y[near] == y[1400:]).float().mean().item():.3f}")
