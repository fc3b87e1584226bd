# text classification with EmbeddingBag (torchtext tutorial style) on generated token streams
import torch
from torch import nn

torch.manual_seed(121)
VOCAB, CLASSES = 400, 8
topic = torch.softmax(1.3 * torch.randn(CLASSES, VOCAB), 1)


def collate(n):
    labels = torch.randint(0, CLASSES, (n,))
    lens = torch.randint(20, 50, (n,))
    toks = [torch.multinomial(topic[c], int(l), replacement=True) for c, l in zip(labels, lens)]
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), lens.cumsum(0)[:-1]])
    return torch.cat(toks), offsets, labels


class TextClassificationModel(nn.Module):
    def __init__(self, vocab_size, embed_dim, num_class):
        super().__init__()
        self.embedding = nn.EmbeddingBag(vocab_size, embed_dim, mode="mean")
        self.fc = nn.Linear(embed_dim, num_class)
        self.softmax = nn.Softmax(dim=1)

    def forward(self, text, offsets):
        return self.softmax(self.fc(self.embedding(text, offsets)))


model = TextClassificationModel(VOCAB, 32, CLASSES)
criterion = torch.nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=3.0)
total_acc, total_count, losses = 0, 0, 0.0
for idx in range(1, 241):
    text, offsets, label = collate(32)
    predicted_label = model(text, offsets)
    loss = criterion(predicted_label, label)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    total_acc += (predicted_label.argmax(1) == label).sum().item()
    total_count += label.size(0)
    losses += loss.item()
    if idx % 40 == 0:
        print(f"| {idx:4d} batches | loss {losses / 40:.4f} | accuracy {total_acc / total_count:.3f}")
        total_acc, total_count, losses = 0, 0, 0.0
