"""What a clipped optimizer step costs with torch's clip and with ours, folded into the fused kernel.

Gradients stay in place, so that the step alone is measured: clip, update, and everything the stepper does around it,
norms of every tensor included. All contestants take turns step by step in one process, so that a change of the
machine's speed hits them alike; time is that of the CPU, on one thread.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from steadygrad import Stepper
from steadygrad.clip import GlobalNorm

#: Name: (tensors, parameters each). A transformer of 38M parameters, a small net, many small tensors.
MODELS = {"38M in 120": (120, 316_000), "2.4M in 120": (120, 20_000), "128k in 2,000": (2000, 64)}
#: The step with our folded clip over that with torch's: what is aimed at.
TARGETS = {"38M in 120": 0.90, "2.4M in 120": 0.95, "128k in 2,000": 1.0}
#: What one contestant does, and the gradients it does it with.
Contestant = tuple[Callable[[], object], list[Tensor]]


def parameters(tensors: int, numel: int) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    made = [nn.Parameter(torch.randn(numel, generator=generator)) for _ in range(tensors)]
    for p in made:
        p.grad = torch.randn(numel, generator=generator)
    return made


def contestants(tensors: int, numel: int, max_norm: float) -> dict[str, Contestant]:
    """Each with parameters and a fused AdamW of its own."""
    made: dict[str, Contestant] = {}
    for name in ("step alone", "torch clip", "folded", "scaled"):
        held = parameters(tensors, numel)
        optimizer = torch.optim.AdamW(held, lr=1e-4, fused=True)
        step: Callable[[], object] = optimizer.step
        if name == "torch clip":
            step = _torch_clip(optimizer, held, max_norm)
        elif name != "step alone":
            step = _stepper(optimizer, max_norm, fold=name == "folded")
        made[name] = step, [p.grad for p in held if p.grad is not None]
    return made


def _torch_clip(optimizer: torch.optim.Optimizer, held: list[nn.Parameter], max_norm: float) -> Callable[[], object]:
    def step() -> object:
        norm = nn.utils.clip_grad_norm_(held, max_norm)
        optimizer.step()
        return norm

    return step


def _stepper(optimizer: torch.optim.Optimizer, max_norm: float, *, fold: bool) -> Callable[[], object]:
    stepper = Stepper(optimizer, clip=GlobalNorm(max_norm), fold=fold)
    stepper._clear = lambda: None  # type: ignore[method-assign]  # the gradients are needed again
    return stepper.step


def once(contestant: Contestant) -> float:
    """Milliseconds of one step. The clip before made the gradients small: they are made large again."""
    step, gradients = contestant
    torch._foreach_mul_(gradients, 1000 / float(torch.stack(torch._foreach_norm(gradients)).norm()))
    started = time.process_time_ns()
    step()
    return (time.process_time_ns() - started) / 1e6


def compare(name: str, *, rounds: int, max_norm: float) -> dict[str, Any]:
    """Milliseconds of each, and the ratio to torch's clip: median over rounds, with its 95% interval."""
    tensors, numel = MODELS[name]
    racing = contestants(tensors, numel, max_norm)
    order = list(racing)
    times: dict[str, list[float]] = {each: [] for each in order}
    for i in range(rounds + 3):
        for each in order if i % 2 else reversed(order):
            took = once(racing[each])
            if i >= 3:
                times[each].append(took)
    return {each: _summary(found, times["torch clip"]) for each, found in times.items()}


def _summary(found: list[float], against: list[float]) -> dict[str, float]:
    ratios = np.array(found) / np.array(against)
    rng = np.random.default_rng(0)
    drawn = np.median(rng.choice(ratios, (1000, len(ratios))), axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {
        "ms": statistics.median(found), "least_ms": min(found), "ratio": float(np.median(ratios)),
        "least_ratio": min(found) / min(against), "low": float(low), "high": float(high),
    }  # fmt: skip


def measure(rounds: int = 30) -> dict[str, Any]:
    """Every model, with a clip that is active and with one that is not."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _measure(rounds)
    finally:
        torch.set_num_threads(threads)


def _measure(rounds: int) -> dict[str, Any]:
    return {
        name: {
            "target": TARGETS[name],
            "active": compare(name, rounds=rounds if numel > 1e5 else 5 * rounds, max_norm=1.0),
            "inactive": compare(name, rounds=rounds if numel > 1e5 else 5 * rounds, max_norm=1e9),
        }
        for name, (_, numel) in MODELS.items()
    }


def show(console: Console, found: dict[str, Any]) -> None:
    """One row per model and clip."""
    table = Table(title="A fused AdamW step with its clip, by that with torch's clip_grad_norm_", title_justify="left")
    for column in ("parameters", "clip", "torch", "step alone", "folded", "scaled", "aim for folded"):
        table.add_column(column, justify="right" if column not in ("parameters", "clip") else "left")
    for name, rows in found.items():
        for kind in ("active", "inactive"):
            row = rows[kind]
            cells = [f"{row[each]['ratio']:.3f} ({row[each]['low']:.3f}-{row[each]['high']:.3f})" for each in
                     ("step alone", "folded", "scaled")]  # fmt: skip
            table.add_row(name, kind, f"{row['torch clip']['ms']:.2f} ms", *cells, f"<= {rows['target']:.2f}")
    console.print(table)
