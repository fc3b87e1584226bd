import torch
from torch import nn, Tensor


class FeedForward(nn.Sequential):
    def __init__(self, d, h):
        super().__init__(nn.Linear(d, h), nn.ReLU(), nn.Linear(h, d))


class SwitchLayer(nn.Module):
    """Routes each token to its best expert; experts without tokens are skipped."""

    def __init__(self, d, n_experts, h):
        super().__init__()
        self.router = nn.Linear(d, n_experts, bias=False)
        self.experts = nn.ModuleList(FeedForward(d, h) for _ in range(n_experts))

    def forward(self, x: Tensor):
        prob = self.router(x).softmax(-1)
        gate, choice = prob.max(-1)
        y = torch.zeros_like(x)
        share = torch.zeros(len(self.experts))
        for e, expert in enumerate(self.experts):
            rows = (choice == e).nonzero().flatten()
            share[e] = len(rows) / len(x)
            if len(rows):
                y = y.index_add(0, rows, gate[rows, None] * expert(x[rows]))
        aux = len(self.experts) * (share * prob.mean(0)).sum()
        return x + y, aux, share


class Model(nn.Module):
    def __init__(self, d_in=5, d=24, experts=6):
        super().__init__()
        self.embed = nn.Linear(d_in, d)
        self.switch = SwitchLayer(d, experts, 32)
        self.norm = nn.LayerNorm(d)
        self.out = nn.Linear(d, 2)

    def forward(self, x):
        h, aux, share = self.switch(torch.tanh(self.embed(x)))
        return self.out(self.norm(h)), aux, share


def sample(n):
    x = torch.randn(n, 5)
    k = (x[:, 0] > 0.3).long() + 2 * (x[:, 1] > -0.3).long()
    a = torch.stack([x[:, 2], x[:, 3] * x[:, 4], -x[:, 2], x[:, 3].abs() - 0.8], 1)
    target = torch.stack([a.gather(1, k[:, None]).squeeze(1), x[:, 4]], 1)
    return x, target


def main():
    torch.manual_seed(64)
    model = Model()
    opt = torch.optim.AdamW(model.parameters(), lr=3e-3)
    vx, vy = sample(1000)
    for step in range(700):
        x, y = sample(96)
        pred, aux, share = model(x)
        loss = (pred - y).square().mean() + 0.02 * aux
        opt.zero_grad(set_to_none=True)
        loss.backward()
        opt.step()
        if step % 70 == 69:
            with torch.no_grad():
                val = (model(vx)[0] - vy).square().mean().item()
            print(f"step {step + 1} loss {loss.item():.4f} val {val:.4f} busiest {share.max().item():.2f} idle {(share == 0).sum().item()}")


if __name__ == "__main__":
    main()
