"""Regression and classification together, each weighted by its own learned uncertainty."""
import torch
from torch import nn

torch.manual_seed(28)


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(5, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.heads = nn.ModuleDict({"force": nn.Linear(64, 1), "side": nn.Linear(64, 1), "torque": nn.Linear(64, 1)})
        self.log_var = nn.ParameterDict({k: nn.Parameter(torch.zeros(())) for k in self.heads})

    def forward(self, x):
        h = self.trunk(x)
        return {k: head(h).squeeze(1) for k, head in self.heads.items()}


def measure(n):
    x = torch.randn(n, 5)
    force = torch.sin(x[:, 0]) + 0.5 * x[:, 1] + 0.05 * torch.randn(n)
    torque = 0.3 * x[:, 2] * torch.tanh(x[:, 3]) + 0.02 * torch.randn(n)
    side = (x[:, 0] + x[:, 4] > 0).float()
    return x, {"force": force, "torque": torque, "side": side}


net = TwoHeads()
opt = torch.optim.Adam(net.parameters(), lr=4e-3)
for step in range(1, 701):
    x, want = measure(96)
    got = net(x)
    parts = {k: nn.functional.mse_loss(got[k], want[k]) for k in ("force", "torque")}
    parts["side"] = nn.functional.binary_cross_entropy_with_logits(got["side"], want["side"])
    loss = sum(torch.exp(-net.log_var[k]) * v + net.log_var[k] for k, v in parts.items())
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 100 == 0:
        print(f"step {step} total {loss.item():+.4f} " + " ".join(f"{k} {v.item():.4f}" for k, v in parts.items()))
