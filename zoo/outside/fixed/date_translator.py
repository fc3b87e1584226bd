"""Encoder-decoder that rewrites a digit string in reverse with every digit shifted by the first."""
import torch
import torch.nn as nn
import torch.nn.functional as F

DIGITS, LENGTH, HIDDEN, START = 8, 5, 64, 8


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(DIGITS, 16)
        self.gru = nn.GRU(16, HIDDEN, batch_first=True)

    def forward(self, x):
        _, h = self.gru(self.embed(x))
        return h[0]


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(DIGITS + 1, 16)
        self.cell = nn.GRUCell(16, HIDDEN)
        self.out = nn.Linear(HIDDEN, DIGITS)

    def forward(self, h, target):
        token = torch.full((len(target),), START)
        logits = []
        for t in range(target.shape[1]):
            h = self.cell(self.embed(token), h)
            logits.append(self.out(h))
            token = target[:, t]
        return torch.stack(logits, 1)


torch.manual_seed(83)
encoder, decoder = Encoder(), Decoder()
enc_opt = torch.optim.Adam(encoder.parameters(), lr=4e-3)
dec_opt = torch.optim.SGD(decoder.parameters(), lr=0.3, momentum=0.8)

for step in range(1, 301):
    source = torch.randint(0, DIGITS, (48, LENGTH))
    target = source.flip(1)
    logits = decoder(encoder(source), target)
    loss = F.cross_entropy(logits.reshape(-1, DIGITS), target.reshape(-1))
    enc_opt.zero_grad()
    dec_opt.zero_grad()
    loss.backward()
    enc_opt.step()
    dec_opt.step()
    if step % 50 == 0:
        right = (logits.argmax(-1) == target).float().mean().item()
        print(f"step {step} loss {loss.item():.4f} right {right:.3f}")
