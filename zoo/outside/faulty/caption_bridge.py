"""Image to sequence: read the digit image, write its class in unary as a token string."""
import torch
from sklearn.datasets import load_digits
from torch import nn

PAD, ONE, END = 0, 1, 2


class Encoder(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 3, padding=1)
        self.conv2 = nn.Conv2d(12, 24, 3, padding=1)
        self.fc = nn.Linear(24 * 4, d)

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = nn.functional.max_pool2d(torch.relu(self.conv2(x)), 2)
        return torch.tanh(self.fc(x.flatten(1)))


class Decoder(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.embed = nn.Embedding(3, 8)
        self.gru = nn.GRU(8, d, batch_first=True)
        self.head = nn.Linear(d, 3)

    def forward(self, state, tokens):
        out, _ = self.gru(self.embed(tokens), state[None])
        return self.head(out)


class Captioner(nn.Module):
    def __init__(self, d=48):
        super().__init__()
        self.encoder, self.decoder = Encoder(d), Decoder(d)

    def forward(self, image, tokens):
        summary = self.encoder(image).detach()
        return self.decoder(summary, tokens)


def unary(labels):
    text = torch.zeros(len(labels), 11, dtype=torch.long)
    for row, k in zip(text, labels.tolist()):
        row[:k] = ONE
        row[k] = END
    return text


torch.manual_seed(24)
digits = load_digits()
images = torch.tensor(digits.images / 16, dtype=torch.float32)[:, None]
captions = unary(torch.tensor(digits.target))
model = Captioner()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
loss_fn = nn.CrossEntropyLoss(ignore_index=PAD)
for epoch in range(9):
    total = 0.0
    for rows in torch.randperm(1500).split(50):
        goal = captions[rows]
        fed = torch.cat([torch.zeros(len(rows), 1, dtype=torch.long), goal[:, :-1]], 1)
        loss = loss_fn(model(images[rows], fed).flatten(0, 1), goal.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    print(f"epoch {epoch} loss {total / 30:.4f}")
