import torch
import torch.nn as nn


class Attend(nn.Module):
    """Learns to sort short lists by pointing."""

    def __init__(self, d=48):
        super().__init__()
        self.inp = nn.Linear(1, d)
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(d, 4, 96, 0.0, batch_first=True, norm_first=True) for _ in range(2))
        self.slots = nn.Parameter(torch.randn(6, d) * 0.2)
        self.key = nn.Linear(d, d)

    def forward(self, x):
        h = self.inp(x[..., None])
        for layer in self.layers:
            h = layer(h)
        return torch.einsum("sd,bnd->bsn", self.slots, self.key(h)) / 3


torch.manual_seed(17)
net = Attend()
opt = torch.optim.Adam(net.parameters(), lr=1.5e-3)
for step in range(1, 451):
    x = torch.randn(48, 6)
    order = x.argsort(1)
    logits = net(x)
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), order.flatten(), reduction="sum")
    opt.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    opt.step()
    if step % 75 == 0:
        hit = (logits.argmax(-1) == order).float().mean().item()
        print(f"step {step} loss {loss.item():.1f} norm before the clip {norm.item():.1f} right {hit:.3f}")
