"""Semi-supervised two moons with a mean teacher."""
import copy
import math

import numpy as np
import torch
import torch.nn as nn
from sklearn.datasets import make_moons


def sigmoid_rampup(current, length):
    t = min(current, length) / length
    return math.exp(-5.0 * (1.0 - t) ** 2)


@torch.no_grad()
def update_ema(student, teacher, alpha, step):
    alpha = min(1 - 1 / (step + 1), alpha)
    for s, t in zip(student.parameters(), teacher.parameters()):
        t.mul_(alpha).add_(s, alpha=1 - alpha)


def create(ema_of=None):
    if ema_of is not None:
        m = copy.deepcopy(ema_of)
        for p in m.parameters():
            p.requires_grad_(False)
        return m
    return nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))


def main():
    torch.manual_seed(1)
    X, y = make_moons(1200, noise=0.12, random_state=0)
    X = torch.tensor(X, dtype=torch.float32)
    y = torch.tensor(y)
    labelled = torch.from_numpy(np.concatenate([np.where(y[:800] == c)[0][:8] for c in (0, 1)]))
    student = create()
    teacher = create(student)
    opt = torch.optim.Adam(student.parameters(), lr=3e-3)
    for step in range(600):
        rows = torch.randint(0, 800, (64,))
        noisy_a = X[rows] + 0.15 * torch.randn(64, 2)
        noisy_b = X[rows] + 0.15 * torch.randn(64, 2)
        class_loss = nn.functional.cross_entropy(student(X[labelled] + 0.1 * torch.randn(16, 2)), y[labelled])
        with torch.no_grad():
            goal = teacher(noisy_b).softmax(1)
        cons = (student(noisy_a).softmax(1) - goal).square().mean()
        w = 20 * sigmoid_rampup(step, 300)
        loss = class_loss + w * cons
        opt.zero_grad()
        loss.backward()
        opt.step()
        update_ema(student, teacher, 0.98, step)
        if step % 60 == 59:
            with torch.no_grad():
                acc = [(m(X[800:]).argmax(1) == y[800:]).float().mean().item() for m in (student, teacher)]
            print(f"{step + 1} class {class_loss.item():.4f} consistency {cons.item():.5f} x {w:.2f} student {acc[0]:.4f} teacher {acc[1]:.4f}")


main()
