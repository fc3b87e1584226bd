import torch
from torch import nn

torch.manual_seed(30)
TRUE = nn.functional.normalize(torch.randn(64, 32), dim=1)


def signals(n):
    on = torch.rand(n, 64) < 0.06
    return (on * (0.5 + torch.rand(n, 64))) @ TRUE


class TopK(nn.Module):
    def __init__(self, d=32, m=128, k=8):
        super().__init__()
        self.k = k
        self.decode = nn.Parameter(nn.functional.normalize(torch.randn(m, d), dim=1))
        self.encode = nn.Parameter(self.decode.detach().clone().T.contiguous())
        self.offset = nn.Parameter(torch.zeros(d))

    def forward(self, x):
        pre = torch.relu((x - self.offset) @ self.encode)
        top = pre.topk(self.k, dim=1)
        code = torch.zeros_like(pre).scatter(1, top.indices, top.values)
        return code @ self.decode + self.offset, code


sae = TopK()
opt = torch.optim.Adam(sae.parameters(), lr=2e-3)
for step in range(1, 801):
    x = signals(128)
    out, code = sae(x)
    loss = (out - x).pow(2).sum(1).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 100 == 0:
        print(f"step {step} error share {loss.item() / x.var(0).sum().item():.4f} on {(code > 0).float().mean().item():.3f}")
