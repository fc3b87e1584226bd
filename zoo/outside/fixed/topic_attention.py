import torch
from torch import nn

torch.manual_seed(90)
VOCAB, TOPICS, LENGTH = 200, 12, 20
topic_words = torch.randn(TOPICS, VOCAB).mul(1.6).softmax(1)


def documents(n):
    topic = torch.randint(0, TOPICS, (n,))
    return torch.multinomial(topic_words[topic], LENGTH, replacement=True), topic


class AttentionPool(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.query = nn.Parameter(torch.randn(dim) / dim**0.5)
        self.key = nn.Linear(dim, dim)

    def forward(self, tokens):
        weight = torch.softmax(torch.tanh(self.key(tokens)) @ self.query, dim=1)
        return (weight[..., None] * tokens).sum(1)


class TopicModel(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, dim)
        self.pool = AttentionPool(dim)
        self.classify = nn.Sequential(nn.Linear(dim, 64), nn.ReLU(), nn.Linear(64, TOPICS))

    def forward(self, tokens):
        return self.classify(self.pool(self.embedding(tokens)))


model = TopicModel()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for step in range(500):
    docs, topic = documents(32)
    loss = criterion(model(docs), topic)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step} loss {loss.item():.4f}")
with torch.no_grad():
    docs, topic = documents(2000)
    print(f"topic accuracy {(model(docs).argmax(1) == topic).float().mean().item():.3f}")
