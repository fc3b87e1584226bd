"""Fits the signed distance of a star-shaped outline with a deep coordinate network."""
import torch
import torch.nn as nn


def star_distance(points):
    r = points.norm(dim=1)
    angle = torch.atan2(points[:, 1], points[:, 0])
    return r - (0.6 + 0.2 * torch.cos(5 * angle))


def build(depth=30, width=48):
    layers = [nn.Linear(2, width), nn.ReLU()]
    for _ in range(depth):
        layers += [nn.Linear(width, width), nn.LayerNorm(width), nn.ReLU()]
    layers += [nn.Linear(width, 1)]
    return nn.Sequential(*layers)


class Surface(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = build()

    def forward(self, p):
        return self.net(p).squeeze(1)


torch.manual_seed(4)
surface = Surface()
opt = torch.optim.Adam(surface.parameters(), lr=5e-4)
history = []
for it in range(260):
    pts = torch.rand(128, 2) * 2 - 1
    target = star_distance(pts)
    loss = ((surface(pts) - target) ** 2).mean() / 0.11
    opt.zero_grad()
    loss.backward()
    opt.step()
    history.append(loss.item())
    if (it + 1) % 65 == 0:
        print(f"iter {it + 1}: relative error {sum(history[-20:]) / 20:.4f}")
