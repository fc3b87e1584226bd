"""The training loop that the experiments share: what is recorded is the loss and the gradient's norm at every step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from steadygrad.clip import Clipper
from steadygrad.lab.data import Pair, generator
from steadygrad.lab.experiment import Run
from steadygrad.schedules import Schedule, ScheduledLR

Loss = Callable[[Tensor, Tensor], Tensor]
Batches = Iterator[Pair]


def steps(full: int, scale: float) -> int:
    """How many steps a scaled experiment takes; at least 4."""
    return max(4, round(full * scale))


def whole(data: Pair) -> Batches:
    """The whole data at every step."""
    while True:
        yield data


def minibatches(data: Pair, size: int, seed: int) -> Batches:
    """Random batches of this size, shuffled anew for every pass; a short last batch is left out."""
    g = generator(seed + 10_000)
    while True:
        order = torch.randperm(len(data[0]), generator=g)
        for rows in torch.split(order, size):
            if len(rows) == size:
                yield data[0][rows], data[1][rows]


def train(
    model: nn.Module,
    batches: Batches,
    count: int,
    *,
    lr: float | None = 0.01,
    optimizer: torch.optim.Optimizer | None = None,
    loss: Loss = F.mse_loss,
    clip: Clipper | None = None,
    schedule: Schedule | None = None,
    penalty: Callable[[nn.Module], Tensor] | None = None,
    watch: Callable[[int, nn.Module], None] | None = None,
) -> Run:
    """Train for some steps and record ``loss`` (without the penalty), ``grad_norm``, and with a clip ``clipped_norm``.

    Plain SGD with ``lr`` unless an optimizer is given. A run whose loss is not finite ends there, and its curve is
    filled up with NaN.
    """
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=lr or 0.01)
    scheduler = None if schedule is None else ScheduledLR(optimizer, schedule)
    run = Run({"loss": [], "grad_norm": [], **({} if clip is None else {"clipped_norm": []})})
    for step in range(count):
        x, y = next(batches)
        optimizer.zero_grad()
        value = loss(model(x), y)
        torch.autograd.backward(value if penalty is None else value + penalty(model))
        run.curves["loss"].append(value.item())
        run.curves["grad_norm"].append(grad_norm(model))
        if not math.isfinite(run.curves["loss"][-1]):
            break
        if clip is not None:
            clip(model)
            run.curves["clipped_norm"].append(grad_norm(model))
        if watch is not None:
            watch(step, model)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    for curve in run.curves.values():
        curve.extend([math.nan] * (count - len(curve)))
    return run


def best_rate(attempt: Callable[[float], Run], rates: Sequence[float] = (0.1, 0.03, 0.01)) -> Run:
    """The run with the lowest end loss among these rates, so that no arm loses for a rate that suits another."""
    runs = {rate: attempt(rate) for rate in rates}
    rate = min(runs, key=lambda r: runs[r].final())
    runs[rate].numbers["lr"] = rate
    return runs[rate]


def grad_norm(model: nn.Module) -> float:
    """The L2 norm of all gradients together, in float64."""
    norms = [p.grad.double().norm() for p in model.parameters() if p.grad is not None]
    return float(torch.stack(norms).norm()) if norms else 0.0


def mlp(widths: list[int], activation: Callable[[], nn.Module], *, norm: bool = False) -> nn.Sequential:
    """Linear layers of these widths with the activation, and BatchNorm before it if wanted, between them."""
    layers: list[nn.Module] = []
    for i, (ins, outs) in enumerate(pairwise(widths)):
        layers.append(nn.Linear(ins, outs))
        if i < len(widths) - 2:
            layers += [*([nn.BatchNorm1d(outs)] if norm else []), activation()]
    return nn.Sequential(*layers)
