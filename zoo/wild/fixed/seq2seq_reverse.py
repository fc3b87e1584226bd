"""Reverse a digit string with an attentive GRU encoder-decoder."""
import torch
import torch.nn as nn
import torch.nn.functional as F

SOS, N_SYMBOLS, LEN = 10, 11, 6
CLIP = 1.0


class Encoder(nn.Module):
    def __init__(self, hid):
        super().__init__()
        self.emb = nn.Embedding(N_SYMBOLS, hid)
        self.gru = nn.GRU(hid, hid, batch_first=True)

    def forward(self, src):
        return self.gru(self.emb(src))


class Attention(nn.Module):
    def __init__(self, hid):
        super().__init__()
        self.query = nn.Linear(hid, hid)

    def forward(self, state, memory):
        score = torch.bmm(memory, self.query(state).unsqueeze(2)) / memory.size(2) ** 0.5
        return (score.softmax(1) * memory).sum(1)


class Decoder(nn.Module):
    def __init__(self, hid):
        super().__init__()
        self.emb = nn.Embedding(N_SYMBOLS, hid)
        self.attn = Attention(hid)
        self.cell = nn.GRUCell(2 * hid, hid)
        self.out = nn.Linear(2 * hid, N_SYMBOLS)

    def forward(self, token, state, memory):
        ctx = self.attn(state, memory)
        state = self.cell(torch.cat([self.emb(token), ctx], 1), state)
        return self.out(torch.cat([state, ctx], 1)), state


class Seq2Seq(nn.Module):
    def __init__(self, hid=48):
        super().__init__()
        self.encoder, self.decoder = Encoder(hid), Decoder(hid)

    def forward(self, src, tgt=None):
        memory, state = self.encoder(src)
        state, token, outs = state[0], torch.full((len(src),), SOS), []
        for t in range(LEN):
            logits, state = self.decoder(token, state, memory)
            outs.append(logits)
            token = tgt[:, t] if tgt is not None else logits.argmax(1)
        return torch.stack(outs, 1)


def batch(n):
    src = torch.randint(0, 10, (n, LEN))
    return src, src.flip(1)


if __name__ == "__main__":
    torch.manual_seed(100)
    model = Seq2Seq()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    running = 0.0
    for i in range(1, 601):
        src, tgt = batch(32)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(src, tgt).flatten(0, 1), tgt.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        running += loss.item()
        if i % 50 == 0:
            print(f"{i:4d} loss {running / 50:.4f}")
            running = 0.0
    with torch.no_grad():
        src, tgt = batch(300)
        acc = (model(src).argmax(-1) == tgt).float().mean().item()
    print(f"greedy symbol accuracy {acc:.4f}")
