import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(1013)
V = 20
trans = torch.softmax(2.5 * torch.randn(V, V, V), -1)


def sample(n=24, T=20):
    s = [torch.randint(0, V, (n,)), torch.randint(0, V, (n,))]
    for _ in range(T - 1):
        s.append(torch.multinomial(trans[s[-2], s[-1]], 1).squeeze(1))
    return torch.stack(s, 1)


pool = sample(1200)


class CharLSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(V, 24)
        self.lstm = nn.LSTM(24, 96, batch_first=True)
        self.out = nn.Linear(96, V)

    def forward(self, x):
        return self.out(self.lstm(self.emb(x))[0])


net = CharLSTM()
opt = torch.optim.Adam(net.parameters(), lr=6e-3)
active = 0
for it in range(1, 301):
    b = pool[torch.randint(0, 1200, (32,))]
    loss = F.cross_entropy(net(b[:, :-1]).flatten(0, 1), b[:, 1:].flatten())
    opt.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(net.parameters(), 0.25)
    active += float(norm > 0.25)
    opt.step()
    if it % 30 == 0:
        print(f"it {it} loss {loss.item():.4f} norm {norm.item():.3f} clipped {active / it:.2f}")
