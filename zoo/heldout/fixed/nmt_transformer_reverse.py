import torch
import torch.nn as nn

torch.manual_seed(361)
V, L, D, PAD = 12, 8, 32, 0


class Seq2SeqTransformer(nn.Module):
    def __init__(self, n_enc=3, n_dec=5):
        super().__init__()
        self.src_emb, self.tgt_emb = nn.Embedding(V, D), nn.Embedding(V, D)
        self.pos = nn.Parameter(0.1 * torch.randn(1, L + 1, D))
        self.transformer = nn.Transformer(D, 4, n_enc, n_dec, 64, dropout=0.0, batch_first=True)
        self.generator = nn.Linear(D, V)
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.xavier_uniform_(p)

    def forward(self, src, tgt):
        mask = nn.Transformer.generate_square_subsequent_mask(tgt.size(1))
        h = self.transformer(self.src_emb(src) + self.pos[:, :src.size(1)],
                             self.tgt_emb(tgt) + self.pos[:, :tgt.size(1)], tgt_mask=mask)
        return self.generator(h)


class NoamLike:
    def __init__(self, opt, peak, ramp, total):
        self.opt, self.peak, self.ramp, self.total, self.n = opt, peak, ramp, total, 0

    def step(self):
        self.n += 1
        f = min(self.n / self.ramp, 1.0) * max(0.1, 1 - self.n / self.total)
        for g in self.opt.param_groups:
            g["lr"] = self.peak * f
        self.opt.step()


model = Seq2SeqTransformer()
opt = NoamLike(torch.optim.Adam(model.parameters(), betas=(0.9, 0.98), eps=1e-9), peak=8e-3, ramp=80, total=240)
loss_fn = nn.CrossEntropyLoss()
for it in range(1, 181):
    src = torch.randint(2, V, (16, L))
    tgt = torch.cat([torch.ones(16, 1, dtype=torch.long), src.flip(1)], 1)
    logits = model(src, tgt[:, :-1])
    loss = loss_fn(logits.reshape(-1, V), tgt[:, 1:].reshape(-1))
    opt.opt.zero_grad()
    loss.backward()
    opt.step()
    if it % 20 == 0:
        print(f"iter {it} loss {loss.item():.4f}")
