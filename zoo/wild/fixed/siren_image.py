"""Fit a grey image with a sinusoidal representation network."""
import math

import torch
from torch import nn

torch.manual_seed(11)
OMEGA = 30.0
SIDE = 40


class SineLayer(nn.Module):
    def __init__(self, fan_in, fan_out, first=False):
        super().__init__()
        self.linear = nn.Linear(fan_in, fan_out)
        with torch.no_grad():
            if first:
                bound = 1 / fan_in
            else:
                bound = math.sqrt(6 / fan_in) / OMEGA
            self.linear.weight.uniform_(-bound, bound)

    def forward(self, x):
        return torch.sin(OMEGA * self.linear(x))


class Siren(nn.Module):
    def __init__(self, hidden=64, depth=3):
        super().__init__()
        layers = [SineLayer(2, hidden, first=True)]
        for _ in range(depth):
            layers.append(SineLayer(hidden, hidden))
        head = nn.Linear(hidden, 1)
        b = math.sqrt(6 / hidden) / OMEGA
        nn.init.uniform_(head.weight, -b, b)
        self.net = nn.Sequential(*layers, head)

    def forward(self, coords):
        return self.net(coords)


def make_picture(side):
    ys, xs = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    img = torch.sin(6 * xs) * torch.cos(4 * ys)
    img += 0.7 * ((xs - 0.2) ** 2 + (ys + 0.1) ** 2 < 0.2).float()
    img -= 0.5 * ((xs + 0.4).abs() + (ys - 0.3).abs() < 0.3).float()
    coords = torch.stack([xs, ys], -1).reshape(-1, 2)
    return coords, img.reshape(-1, 1)


def main():
    coords, pixels = make_picture(SIDE)
    train = torch.rand(len(coords)) < 0.7
    model = Siren()
    opt = torch.optim.Adam(model.parameters(), lr=2e-4)
    for step in range(501):
        pred = model(coords[train])
        loss = ((pred - pixels[train]) ** 2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        if step % 50 == 0:
            with torch.no_grad():
                held = ((model(coords[~train]) - pixels[~train]) ** 2).mean()
            psnr = -10 * torch.log10(held)
            print(f"step {step:4d}  train mse {loss.item():.5f}  held-out psnr {psnr.item():.2f} dB")


if __name__ == "__main__":
    main()
