import torch
import torch.nn as nn

GRAD_LIMIT = 0.5
BATCHES = 200


class TwoBranch(nn.Module):
    def __init__(self):
        super().__init__()
        self.position = nn.Sequential(nn.Linear(4, 32), nn.Softplus(), nn.Linear(32, 12))
        self.velocity = nn.Sequential(nn.Linear(4, 32), nn.Softplus(), nn.Linear(32, 12))
        self.fuse = nn.Bilinear(12, 12, 2)

    def forward(self, p, v):
        return self.fuse(self.position(p), self.velocity(v))


def make_batch(n=64):
    p, v = torch.randn(n, 4), torch.randn(n, 4)
    closing = (p * v).sum(1) / 2
    bearing = torch.sin(p[:, 0]) + torch.cos(v[:, 1]) * p[:, 2]
    return p, v, torch.stack([closing, bearing], 1)


def assert_finite(t):
    if not torch.isfinite(t).all():
        raise FloatingPointError("non finite loss")


def update(model, optimizer, batch):
    p, v, target = batch
    loss = nn.functional.huber_loss(model(p, v), target)
    assert_finite(loss)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_value_(model.parameters(), GRAD_LIMIT)
    optimizer.step()
    return loss.detach()


def run():
    torch.manual_seed(41)
    model = TwoBranch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    trace = torch.stack([update(model, optimizer, make_batch()) for _ in range(BATCHES)])
    for i, chunk in enumerate(trace.split(25)):
        print(f"batches {25 * i:3d}.. huber {chunk.mean().item():.4f}")


run()
