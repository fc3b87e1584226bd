"""Mixed precision with a loss scaler: the gradient is unscaled once, then clipped; an overflow leaves no trace."""

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from steadygrad import Stepper
from steadygrad.clip import GlobalNorm

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=300)
args = parser.parse_args()

torch.manual_seed(0)
device = "cuda" if torch.cuda.is_available() else "cpu"
digits = load_digits()
x = torch.tensor(digits.data, dtype=torch.float32, device=device) / 16
y = torch.tensor(digits.target, device=device)
model = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 128), nn.GELU(), nn.Linear(128, 10)).to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, fused=True)
scaler = torch.amp.GradScaler(device, init_scale=2.0**24)  # too large on purpose: it has to find its scale
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.steps)
stepper = Stepper(optimizer, clip=GlobalNorm(1.0), scaler=scaler, scheduler=scheduler, model=model)

for step in range(args.steps):
    rows = torch.randint(0, 1500, (64,), device=device)
    with torch.autocast(device, torch.float16):
        loss = F.cross_entropy(model(x[rows]), y[rows])
    result = stepper.step(loss)
    if result.skipped:
        print(f"step {step + 1} skipped: {result.reason}, the scale is now {scaler.get_scale():g}")

assert scheduler.last_epoch == stepper.steps, "the schedule counts the steps that were taken"
with torch.no_grad():
    accuracy = (model(x[1500:]).argmax(1) == y[1500:]).float().mean()
print(f"{stepper.steps} steps taken, {stepper.skipped} skipped, accuracy {accuracy:.3f}")
