import torch
from torch import nn

torch.manual_seed(16)
V, L, D = 12, 12, 32
layer = nn.TransformerEncoderLayer(D, 2, 64, dropout=0.0, batch_first=True, norm_first=True)
model = nn.ModuleDict({
    "tok": nn.Embedding(V, D),
    "enc": nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
    "out": nn.Linear(D, V),
})
pos = nn.Parameter(0.02 * torch.randn(L, D))
mask = nn.Transformer.generate_square_subsequent_mask(L)
opt = torch.optim.AdamW([*model.parameters(), pos], lr=3e-3)
for step in range(130):
    start, stride = torch.randint(0, V, (24, 1)), torch.randint(1, 4, (24, 1))
    seq = (start + stride * torch.arange(L + 1)) % V
    x, y = seq[:, :-1], seq[:, 1:]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        h = model["enc"](model["tok"](x) + pos, mask=mask, is_causal=True)
        logits = model["out"](h)
    loss = nn.functional.cross_entropy(logits.float().flatten(0, 1), y.flatten())
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 13 == 12:
        print("step", step + 1, "loss", round(loss.item(), 4))
