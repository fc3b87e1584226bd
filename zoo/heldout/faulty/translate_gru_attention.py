# toy translation: reverse a number sequence. encoder-decoder GRU with dot attention
import random
import torch
from torch import nn, optim
import torch.nn.functional as F

SEED = 3
random.seed(SEED); torch.manual_seed(SEED)
VOCAB, HID, MAXLEN, SOS = 14, 48, 8, 0


def get_batch(n=48):
    src = torch.randint(1, VOCAB, (n, MAXLEN))
    return src, src.flip(1)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, HID)
        self.gru = nn.GRU(HID, HID, batch_first=True)

    def forward(self, s):
        return self.gru(self.embedding(s))


class AttnDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, HID)
        self.gru = nn.GRU(2 * HID, HID, batch_first=True)
        self.out = nn.Linear(2 * HID, VOCAB)

    def step(self, tok, h, enc):
        e = self.embedding(tok).unsqueeze(1)
        w = F.softmax(torch.bmm(h.transpose(0, 1), enc.transpose(1, 2)), dim=-1)
        ctx = torch.bmm(w, enc)
        o, h = self.gru(torch.cat([e, ctx], -1), h)
        return self.out(torch.cat([o, ctx], -1)).squeeze(1), h


def init_weights(m):
    for name, param in m.named_parameters():
        nn.init.uniform_(param.data, -2.0, 2.0)


encoder, decoder = Encoder(), AttnDecoder()
encoder.apply(init_weights)
decoder.apply(init_weights)
params = list(encoder.parameters()) + list(decoder.parameters())
opt = optim.Adam(params, lr=4e-3)

for it in range(1, 121):
    src, tgt = get_batch()
    opt.zero_grad()
    enc, h = encoder(src)
    tok = torch.full((src.size(0),), SOS)
    loss = 0.0
    for t in range(MAXLEN):
        logits, h = decoder.step(tok, h, enc)
        loss = loss + F.cross_entropy(logits, tgt[:, t])
        tok = tgt[:, t] if random.random() < 0.8 else logits.argmax(-1)
    loss = loss / MAXLEN
    loss.backward()
    nn.utils.clip_grad_norm_(params, 5.0)
    opt.step()
    if it % 20 == 0 or it == 1:
        print(f"iter {it} loss {loss.item():.4f}")
