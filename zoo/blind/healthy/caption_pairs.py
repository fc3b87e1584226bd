import math
import torch
import torch.nn as nn
import torch.nn.functional as F


class TwoTower(nn.Module):
    def __init__(self):
        super().__init__()
        self.image = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 16))
        self.text = nn.Sequential(nn.EmbeddingBag(60, 32), nn.GELU(), nn.Linear(32, 16))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, img, tok):
        a, b = F.normalize(self.image(img), dim=-1), F.normalize(self.text(tok), dim=-1)
        return self.logit_scale.exp() * a @ b.T


torch.manual_seed(81)
concept = torch.randn(60, 32)
model = TwoTower()
opt = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
for step in range(1, 221):
    tok = torch.randint(0, 60, (48, 4))
    img = concept[tok].mean(1) * 2 + 0.3 * torch.randn(48, 32)
    logits = model(img, tok)
    target = torch.arange(48)
    loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 20 == 0:
        print(f"{step} scale {model.logit_scale.exp().item():.1f} loss {loss.item():.4f}")
