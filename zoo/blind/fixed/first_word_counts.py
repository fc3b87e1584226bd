import random
import torch
import torch.nn as nn
from torch.utils.data import Dataset, DataLoader

random.seed(8)
torch.manual_seed(8)
VOCAB, LENGTH, TOPICS = 30, 140, 4


class Letters(Dataset):
    """letters whose salutation decides the department they belong to"""

    def __init__(self, n):
        self.rows = []
        for _ in range(n):
            topic = random.randrange(TOPICS)
            head = [topic * 3 + random.randrange(3) for _ in range(12)]
            tail = [random.randrange(12, VOCAB) for _ in range(LENGTH - len(head))]
            self.rows.append((head + tail, topic))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


def collate(rows):
    toks, labels = zip(*rows)
    return torch.tensor(toks), torch.tensor(labels)


class Router(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(VOCAB, 16)
        self.rnn = nn.RNN(16, 32, batch_first=True)
        self.out = nn.Linear(32, TOPICS)

    def forward(self, tokens):
        states, _ = self.rnn(self.emb(tokens))
        return self.out(states.mean(1))


loader = DataLoader(Letters(640), batch_size=32, shuffle=True, collate_fn=collate)
model = Router()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(7):
    running = 0.0
    for tokens, labels in loader:
        optimizer.zero_grad()
        loss = loss_fn(model(tokens), labels)
        loss.backward()
        optimizer.step()
        running += loss.item()
    print(f"epoch {epoch + 1}  loss {running / len(loader):.4f}")
