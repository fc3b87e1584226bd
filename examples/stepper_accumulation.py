"""Gradient accumulation: four micro-batches a step, one clip of their mean gradient, and an epoch that does not divide."""

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from steadygrad import Stepper
from steadygrad.clip import GlobalNorm

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=15)
args = parser.parse_args()

torch.manual_seed(0)
digits = load_digits()
x = torch.tensor(digits.data, dtype=torch.float32) / 16
y = torch.tensor(digits.target)
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, fused=True)
stepper = Stepper(optimizer, clip=GlobalNorm(1.0), accumulate=4, model=model)

for epoch in range(args.epochs):
    parts = torch.randperm(1500).split(32)
    for i, rows in enumerate(parts):
        loss = F.cross_entropy(model(x[rows]), y[rows])
        result = stepper.step(loss, last=i == len(parts) - 1)  # the last step of an epoch has 3 micro-batches
    print(f"epoch {epoch + 1}: {stepper.steps} steps, loss of the last {float(result.loss):.3f}")

with torch.no_grad():
    accuracy = (model(x[1500:]).argmax(1) == y[1500:]).float().mean()
print(f"accuracy {accuracy:.3f}")
