"""Next-item prediction with sparse embeddings and a second, dense optimizer."""
import torch
import torch.nn as nn
import torch.nn.functional as F

ITEMS, DIM, HIST = 1500, 16, 5


class NextItem(nn.Module):
    def __init__(self):
        super().__init__()
        self.item = nn.Embedding(ITEMS, DIM, sparse=True)
        nn.init.normal_(self.item.weight, std=0.3)
        self.mix = nn.Sequential(nn.Linear(DIM, 32), nn.ReLU(), nn.Linear(32, DIM))

    def user(self, history):
        return self.mix(self.item(history).mean(1))

    def forward(self, history, candidates):
        return torch.einsum("bd,bcd->bc", self.user(history), self.item(candidates))


def sessions(n, groups=15, gen=None):
    per = ITEMS // groups
    g = torch.randint(groups, (n, 1), generator=gen)
    popular = (torch.rand(n, HIST + 1, generator=gen) ** 2 * per).long()
    seq = g * per + popular
    return seq[:, :HIST], seq[:, HIST]


def recall_at_1(model, hist, pos, gen):
    neg = torch.randint(ITEMS, (len(pos), 20), generator=gen)
    with torch.no_grad():
        s = model(hist, torch.cat([pos[:, None], neg], 1))
    return (s.argmax(1) == 0).float().mean().item()


def main():
    torch.manual_seed(30)
    gen = torch.Generator().manual_seed(30)
    model = NextItem()
    sparse_opt = torch.optim.SparseAdam([model.item.weight], lr=1e-2)
    dense_opt = torch.optim.Adam(model.mix.parameters(), lr=3e-3)
    test = sessions(1000, gen=gen)
    for step in range(1, 601):
        hist, pos = sessions(64, gen=gen)
        cand = torch.cat([pos[:, None], torch.randint(ITEMS, (64, 12), generator=gen)], 1)
        loss = F.cross_entropy(model(hist, cand), torch.zeros(64, dtype=torch.long))
        sparse_opt.zero_grad()
        dense_opt.zero_grad()
        loss.backward()
        sparse_opt.step()
        dense_opt.step()
        if step % 60 == 0:
            print(f"step {step} sampled softmax {loss.item():.4f} recall@1 of 21 {recall_at_1(model, *test, gen):.3f}")


main()
