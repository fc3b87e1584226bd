"""DistributedDataParallel with accumulation: gradients are reduced once per step, and all ranks skip the same steps.

    torchrun --nproc-per-node 2 examples/stepper_ddp.py

Started by itself it is a group of one process.
"""

import argparse
import os

import torch
import torch.distributed as dist
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from steadygrad import Stepper
from steadygrad.clip import GlobalNorm

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=100)
args = parser.parse_args()

if "RANK" in os.environ:
    dist.init_process_group("gloo")
else:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
rank, ranks = dist.get_rank(), dist.get_world_size()

torch.manual_seed(0)
digits = load_digits()
x = torch.tensor(digits.data, dtype=torch.float32) / 16
y = torch.tensor(digits.target)
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
model = DistributedDataParallel(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, fused=True)
stepper = Stepper(optimizer, clip=GlobalNorm(1.0), accumulate=2, model=model)

torch.manual_seed(1 + rank)
for step in range(2 * args.steps):
    rows = torch.randint(0, 1500, (32,))
    loss = F.cross_entropy(model(x[rows]), y[rows])
    if step == 9 and rank == ranks - 1:
        loss = loss * float("nan")  # on one rank only
    result = stepper.step(loss)
    if result.skipped and rank == 0:
        print(f"step {step // 2 + 1} skipped on all ranks: {result.reason}")

with torch.no_grad():
    accuracy = (model(x[1500:]).argmax(1) == y[1500:]).float().mean()
if rank == 0:
    print(f"{ranks} ranks, {stepper.steps} steps taken, {stepper.skipped} skipped, accuracy {accuracy:.3f}")
dist.destroy_process_group()
