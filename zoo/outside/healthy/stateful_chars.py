import torch
from torch import nn

torch.manual_seed(11)
WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "one", "grey", "mouse", "run", "home"]
pick = torch.randint(0, len(WORDS), (6000,)).tolist()
text = " ".join(WORDS[k] for k in pick)
chars = sorted(set(text))
code = torch.tensor([chars.index(c) for c in text])
BATCH, CHUNK = 16, 32
streams = code[: len(code) // BATCH * BATCH].view(BATCH, -1)


class CharLSTM(nn.Module):
    def __init__(self, n, hidden=64):
        super().__init__()
        self.embed = nn.Embedding(n, 24)
        self.lstm = nn.LSTM(24, hidden, batch_first=True)
        self.out = nn.Linear(hidden, n)

    def forward(self, x, state):
        h, state = self.lstm(self.embed(x), state)
        return self.out(h), state


model = CharLSTM(len(chars))
opt = torch.optim.Adam(model.parameters(), lr=8e-3)
step = 0
for epoch in range(6):
    state = None
    for i in range(0, streams.shape[1] - CHUNK - 1, CHUNK):
        x, y = streams[:, i:i + CHUNK], streams[:, i + 1:i + CHUNK + 1]
        if state is not None:
            state = tuple(s.detach() for s in state)
        logits, state = model(x, state)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        step += 1
        if step % 40 == 0:
            print(f"step {step} bits per character {loss.item() / 0.6931:.3f}")
