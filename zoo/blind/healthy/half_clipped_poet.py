import torch
import torch.nn as nn

text = ("it was many and many a year ago in a kingdom by the sea that a maiden there lived whom you may know "
        "by the name of annabel lee and this maiden she lived with no other thought than to love and be loved by me ") * 6
vocab = sorted(set(text))
stream = torch.tensor([vocab.index(c) for c in text])
stream = stream[: len(stream) // 8 * 8].view(8, -1)


class CharGRU(nn.Module):
    def __init__(self, v, h=64):
        super().__init__()
        self.e, self.g, self.o = nn.Embedding(v, 24), nn.GRU(24, h, batch_first=True), nn.Linear(h, v)

    def forward(self, x, h):
        z, h = self.g(self.e(x), h)
        return self.o(z), h


torch.manual_seed(1849)
m = CharGRU(len(vocab))
opt = torch.optim.Adam(m.parameters(), lr=6e-3)
active = steps = 0
for epoch in range(14):
    h, tot, cnt = None, 0.0, 0
    for s in range(0, stream.size(1) - 16, 15):
        x, y = stream[:, s:s + 15], stream[:, s + 1:s + 16]
        out, h = m(x, h)
        h = h.detach()
        loss = nn.functional.cross_entropy(out.flatten(0, 1), y.flatten())
        opt.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(m.parameters(), 0.5)
        active += int(norm > 0.5)
        steps += 1
        opt.step()
        tot, cnt = tot + loss.item(), cnt + 1
    if epoch % 2 == 1:
        print(f"epoch {epoch + 1} clipped {active / steps:.2f} loss {tot / cnt:.4f}")
