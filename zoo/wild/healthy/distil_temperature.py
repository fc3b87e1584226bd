"""Teacher to student on digits."""
import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits


def options():
    p = argparse.ArgumentParser()
    p.add_argument("--temperature", type=float, default=6.0)
    p.add_argument("--alpha", type=float, default=0.9)
    p.add_argument("--teacher-epochs", type=int, default=12)
    p.add_argument("--student-epochs", type=int, default=20)
    return p.parse_args()


class Wide(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(64, 256), nn.ReLU(), nn.Dropout(0.3), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))


class Narrow(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(64, 14), nn.ReLU(), nn.Linear(14, 10))


def kd_loss(student, teacher, labels, T, alpha):
    soft = F.kl_div(F.log_softmax(student / T, 1), F.softmax(teacher / T, 1), reduction="batchmean") * T * T
    return alpha * soft + (1 - alpha) * F.cross_entropy(student, labels)


def accuracy(model, x, y):
    model.eval()
    with torch.no_grad():
        return (model(x).argmax(1) == y).float().mean().item()


def fit(model, x, y, epochs, objective, lr=3e-3):
    opt = torch.optim.Adam(model.parameters(), lr=lr)
    for epoch in range(epochs):
        model.train()
        last = 0.0
        for rows in torch.randperm(1300).split(50):
            loss = objective(model(x[rows]), rows)
            opt.zero_grad()
            loss.backward()
            opt.step()
            last += loss.item() * len(rows) / 1300
        if epoch % 4 == 3:
            print(f"{type(model).__name__} epoch {epoch + 1} loss {last:.4f} test acc {accuracy(model, x[1300:], y[1300:]):.4f}")


def main():
    a = options()
    torch.manual_seed(66)
    d = load_digits()
    x, y = torch.tensor(d.data / 8 - 1, dtype=torch.float32), torch.tensor(d.target)
    teacher, student = Wide(), Narrow()
    fit(teacher, x, y, a.teacher_epochs, lambda out, rows: F.cross_entropy(out, y[rows]))
    teacher.eval().requires_grad_(False)
    fit(student, x, y, a.student_epochs, lambda out, rows: kd_loss(out, teacher(x[rows]), y[rows], a.temperature, a.alpha))


if __name__ == "__main__":
    main()
