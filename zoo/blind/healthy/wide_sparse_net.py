import torch
from torch import nn

torch.manual_seed(13)
VOCAB, TOPICS = 150, 6
topic_words = torch.rand(TOPICS, VOCAB) ** 6
topic_words /= topic_words.sum(1, keepdim=True)


def documents(n):
    y = torch.randint(0, TOPICS, (n,))
    counts = torch.zeros(n, VOCAB).scatter_add_(1, torch.multinomial(topic_words[y], 14, replacement=True), torch.ones(n, 14))
    return counts.log1p() * 2.5, y


net = nn.Sequential(nn.Linear(VOCAB, 256), nn.ReLU(), nn.Dropout(0.5),
                    nn.Linear(256, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, TOPICS))
opt = torch.optim.Adam(net.parameters(), lr=1e-3)
mean = 0.0
for step in range(1, 241):
    x, y = documents(32)
    loss = nn.functional.cross_entropy(net(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
    mean += loss.item()
    if step % 40 == 0:
        print("step", step, "loss", round(mean / 40, 4))
        mean = 0.0
