"""EmbeddingBag with sparse gradients: most rows never move."""
import torch
from torch import nn

torch.manual_seed(0)
VOCAB = 5000
topic = torch.randint(0, 2, (VOCAB,))
emb = nn.EmbeddingBag(VOCAB, 16, sparse=True)
head = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
opts = [torch.optim.SparseAdam(list(emb.parameters()), lr=0.02), torch.optim.AdamW(head.parameters(), lr=3e-3)]
for step in range(300):
    words = (torch.rand(64, 30).pow(3) * VOCAB).long()
    label = (topic[words].float().mean(1) > 0.5).long()
    loss = nn.functional.cross_entropy(head(emb(words)), label)
    for o in opts:
        o.zero_grad()
    loss.backward()
    for o in opts:
        o.step()
    if step % 50 == 0:
        print(step, loss.item())
