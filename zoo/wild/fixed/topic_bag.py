"""Topic classification of bag-of-token documents."""
import json

import torch
import torch.nn as nn

CONFIG = json.loads("""
{
  "vocab": 400, "topics": 8, "emb_dim": 24, "hidden": 48,
  "optim": {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-5},
  "epochs": 8, "batch_size": 40
}
""")


class TopicNet(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.emb = nn.EmbeddingBag(c["vocab"], c["emb_dim"], mode="mean")
        self.fc1 = nn.Linear(c["emb_dim"], c["hidden"])
        self.fc2 = nn.Linear(c["hidden"], c["topics"])

    def forward(self, tokens, offsets):
        return self.fc2(torch.relu(self.fc1(self.emb(tokens, offsets))))


def corpus(c, n):
    g = torch.Generator().manual_seed(1)
    topic_word = torch.distributions.Dirichlet(torch.full((c["vocab"],), 0.08))
    torch.manual_seed(1)
    probs = topic_word.sample((c["topics"],))
    docs, labels = [], torch.randint(0, c["topics"], (n,), generator=g)
    for y in labels:
        length = int(torch.randint(8, 30, (1,), generator=g))
        docs.append(torch.multinomial(0.7 * probs[y] + 0.3 / c["vocab"], length, replacement=True, generator=g))
    return docs, labels


def collate(docs):
    lengths = torch.tensor([0] + [len(d) for d in docs[:-1]])
    return torch.cat(docs), lengths.cumsum(0)


def main(c):
    docs, labels = corpus(c, 2000)
    test = collate(docs[1600:])
    model = TopicNet(c)
    opt = torch.optim.SGD(model.parameters(), **c["optim"])
    for epoch in range(c["epochs"]):
        order, total = torch.randperm(1600), 0.0
        for i in range(0, 1600, c["batch_size"]):
            rows = order[i:i + c["batch_size"]]
            loss = nn.functional.cross_entropy(model(*collate([docs[r] for r in rows])), labels[rows])
            opt.zero_grad()
            loss.backward()
            opt.step()
            total += loss.item()
        with torch.no_grad():
            out = model(*test)
        print(f"epoch {epoch + 1} train loss {total / (1600 / c['batch_size']):.4f} "
              f"test loss {nn.functional.cross_entropy(out, labels[1600:]).item():.4f} "
              f"test acc {(out.argmax(1) == labels[1600:]).float().mean().item():.4f}")


if __name__ == "__main__":
    main(CONFIG)
