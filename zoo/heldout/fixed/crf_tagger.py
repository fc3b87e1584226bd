# POS-tagger style BiLSTM-CRF, forward algorithm in probability space
import torch
import torch.nn as nn

torch.manual_seed(30)
V, TAGS, L, B = 40, 5, 40, 16
trans_true = torch.softmax(2.5 * torch.randn(TAGS, TAGS), 1)
emit_true = torch.softmax(2.0 * torch.randn(TAGS, V), 1)


def sample(n):
    tags = torch.zeros(n, L, dtype=torch.long)
    tags[:, 0] = torch.randint(0, TAGS, (n,))
    for t in range(1, L):
        tags[:, t] = torch.multinomial(trans_true[tags[:, t - 1]], 1).squeeze(1)
    words = torch.multinomial(emit_true[tags.flatten()], 1).view(n, L)
    return words, tags


class BiLSTM_CRF(nn.Module):
    def __init__(self, emb=16, hid=24):
        super().__init__()
        self.word_embeds = nn.Embedding(V, emb)
        self.lstm = nn.LSTM(emb, hid, bidirectional=True, batch_first=True)
        self.hidden2tag = nn.Linear(2 * hid, TAGS)
        self.transitions = nn.Parameter(torch.randn(TAGS, TAGS) * 0.1)

    def features(self, w):
        return self.hidden2tag(self.lstm(self.word_embeds(w))[0])

    def partition(self, f):
        alpha = f[:, 0]
        for t in range(1, L):
            alpha = torch.logsumexp(alpha.unsqueeze(2) + self.transitions, 1) + f[:, t]
        return torch.logsumexp(alpha, 1)

    def gold(self, f, tags):
        e = f.gather(2, tags.unsqueeze(2)).squeeze(2).sum(1)
        return e + self.transitions[tags[:, :-1], tags[:, 1:]].sum(1)

    def nll(self, w, tags):
        f = self.features(w)
        return (self.partition(f) - self.gold(f, tags)).mean() / L


model = BiLSTM_CRF()
opt = torch.optim.Adam(model.parameters(), lr=2e-2)
for step in range(1, 101):
    w, t = sample(B)
    loss = model.nll(w, t)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 10 == 0 or step == 1:
        print(f"step {step:3d} nll/token {loss.item():.4f}")
