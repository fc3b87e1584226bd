"""Delayed recall: the label is the first symbol of a long noisy string."""
import torch
import torch.nn as nn
import torch.optim as optim

VOCAB, CLASSES, LENGTH = 12, 4, 120
torch.manual_seed(1234)


def sample(batch):
    seq = torch.randint(CLASSES, VOCAB, (batch, LENGTH))
    first = torch.randint(0, CLASSES, (batch,))
    seq[:, 0] = first
    return seq, first


class Recaller(nn.Module):
    def __init__(self, emb=16, hidden=32):
        super().__init__()
        self.embed = nn.Embedding(VOCAB, emb)
        self.rnn = nn.RNN(emb, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, CLASSES)

    def forward(self, tokens):
        states, _ = self.rnn(self.embed(tokens))
        return self.fc(states[:, -1])


def main():
    model = Recaller()
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.Adam(model.parameters(), lr=5e-3)
    correct = seen = 0
    for step in range(1, 251):
        x, y = sample(32)
        optimizer.zero_grad()
        logits = model(x)
        loss = criterion(logits, y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        correct += (logits.argmax(-1) == y).sum().item()
        seen += len(y)
        if step % 50 == 0:
            print(f"step {step} loss {loss.item():.4f} acc {correct / seen:.3f}")
            correct = seen = 0
    with torch.no_grad():
        x, y = sample(400)
        out = model(x)
    print(f"test loss {criterion(out, y).item():.4f} acc {(out.argmax(-1) == y).float().mean().item():.3f}")


main()
