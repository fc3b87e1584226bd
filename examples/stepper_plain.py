"""The smallest loop with a stepper and a guard: a CNN on digits, one batch of which is corrupt."""

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from steadygrad import Guard, Stepper
from steadygrad.clip import GlobalNorm

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=300)
args = parser.parse_args()

torch.manual_seed(0)
digits = load_digits()
x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
y = torch.tensor(digits.target)
model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 10)
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, fused=True)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)
guard = Guard(warmup=10)
stepper = Stepper(optimizer, clip=GlobalNorm(5.0), scheduler=scheduler, guard=guard, model=model)

for step in range(args.steps):
    rows = torch.randint(0, 1500, (64,))
    images = x[rows]
    if step == 15:
        images[0, 0, 0, 0] = float("nan")  # the step is skipped, and BatchNorm's running statistics are put back
    result = stepper.step(F.cross_entropy(model(images), y[rows]), batch=step)
    if step % 50 == 49:
        print(f"step {step + 1}: loss {float(result.loss):.3f}, gradient norm {float(result.norm_before):.2f}")

for event in guard.events:
    print(event)
model.eval()
with torch.no_grad():
    accuracy = (model(x[1500:]).argmax(1) == y[1500:]).float().mean()
print(f"{stepper.steps} steps taken, {stepper.skipped} skipped, accuracy {accuracy:.3f}")
