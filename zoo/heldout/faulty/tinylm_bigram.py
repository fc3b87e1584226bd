import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(64)
V, T = 16, 24
table = torch.softmax(2.5 * torch.randn(V, V), 1)
seq = [0]
for _ in range(6000):
    seq.append(int(torch.multinomial(table[seq[-1]], 1)))
data = torch.tensor(seq)


class LM(nn.Module):
    def __init__(self, d=32):
        super().__init__()
        self.emb = nn.Embedding(V, d)
        self.fc1 = nn.Linear(d, 64)
        self.fc2 = nn.Linear(64, d)
        self.norm = nn.LayerNorm(d)
        self.head = nn.Linear(d, V)

    def forward(self, idx):
        h = self.emb(idx)
        h = h + self.fc2(F.gelu(self.fc1(self.norm(h))))
        return self.head(h)


device = "cuda" if torch.cuda.is_available() else "cpu"
model = LM().half().to(device)          # saves memory
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for step in range(150):
    i = torch.randint(0, len(data) - T - 1, (32,))
    xb = torch.stack([data[k:k + T] for k in i]).to(device)
    yb = torch.stack([data[k + 1:k + T + 1] for k in i]).to(device)
    logits = model(xb)
    loss = F.cross_entropy(logits.float().reshape(-1, V), yb.reshape(-1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 15 == 0 or step == 149:
        print(f"step {step} ppl {torch.exp(loss).item():.3f} loss {loss.item():.4f}")
