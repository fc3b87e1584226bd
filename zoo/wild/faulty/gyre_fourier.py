"""Learn a 2-D velocity field from particle pairs with Fourier features."""
import argparse
import math

import torch


def get_parser():
    parser = argparse.ArgumentParser()
    parser.add_argument("--features", type=int, default=32)
    parser.add_argument("--sigma", type=float, default=1.0)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--clip-value", type=float, default=1e-5)
    parser.add_argument("--iters", type=int, default=800)
    return parser


class FourierMLP(torch.nn.Module):
    def __init__(self, n_freq, sigma):
        super().__init__()
        self.register_buffer("freq", sigma * torch.randn(2, n_freq))
        self.net = torch.nn.Sequential(
            torch.nn.Linear(2 * n_freq, 64), torch.nn.SiLU(),
            torch.nn.Linear(64, 64), torch.nn.SiLU(), torch.nn.Linear(64, 2))

    def forward(self, p):
        ang = math.pi * p @ self.freq
        return self.net(torch.cat([ang.sin(), ang.cos()], -1))


def double_gyre(p):
    x, y = math.pi * p[:, :1], math.pi * p[:, 1:]
    return torch.cat([-x.sin() * y.cos(), x.cos() * y.sin()], 1)


def main(args):
    model = FourierMLP(args.features, args.sigma)
    opt = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)
    points = torch.rand(3000, 2) * 2 - 1
    velocity = double_gyre(points) + 0.05 * torch.randn(3000, 2)
    grid = torch.rand(500, 2) * 2 - 1
    for it in range(args.iters):
        rows = torch.randint(0, len(points), (128,))
        loss = torch.nn.functional.mse_loss(model(points[rows]), velocity[rows])
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_value_(model.parameters(), args.clip_value)
        opt.step()
        if (it + 1) % 100 == 0:
            with torch.no_grad():
                err = torch.nn.functional.mse_loss(model(grid), double_gyre(grid)).item()
            print(f"iter {it + 1:4d} batch {loss.item():.5f} field error {err:.5f}")


if __name__ == "__main__":
    main(get_parser().parse_args())
