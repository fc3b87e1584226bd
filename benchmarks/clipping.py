"""What clipping and per-tensor statistics cost, beside torch: ratios, taken in one process by turns.

Each pair is (ours, reference) on the same gradients, which are set anew before every call; order alternates. On the CPU
the process's own time is taken with one thread, so that other programs disturb little; on a GPU the wall clock between
two synchronisations. Shown: the median of the ratios, and their quartiles.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from steadygrad import stats
from steadygrad.clip import (
    AdaGC,
    AdaptiveUnit,
    BlockRMS,
    Chain,
    Clipper,
    GlobalNorm,
    PerTensorNorm,
    Quantile,
    Value,
    ZScore,
)

SIZES = {
    "2.4M in 120": [(1000, 20)] * 120,
    "38M in 120": [(15800, 20)] * 120,
    "128k in 2,000": [(8, 8)] * 2000,
}
LOOSE, TIGHT = 1e9, 1.0
#: Tensors of one compiled call; it takes a second to compile for each of them.
AT_ONCE = 8
CLIPPERS: dict[str, Callable[[], Clipper]] = {
    "GlobalNorm": lambda: GlobalNorm(1.0),
    "Value": lambda: Value(0.5),
    "PerTensorNorm": lambda: PerTensorNorm(1.0),
    "BlockRMS": lambda: BlockRMS(0.5),
    "AdaptiveUnit": lambda: AdaptiveUnit(0.01),
    "Quantile": lambda: Quantile(0.1),
    "ZScore": lambda: ZScore(max_norm=1.0),
    "AdaGC": lambda: AdaGC(absolute=1.0),
    "Chain of three": lambda: Chain(PerTensorNorm(1.0), GlobalNorm(1.0), ZScore()),
}


@dataclass(frozen=True)
class Pair:
    """Two ways to do something: ``what`` by the time of ``reference``."""

    what: str
    reference: str
    size: str
    device: str
    ours_us: float
    reference_us: float
    ratio: float
    low: float
    high: float


class Gradients:
    """Parameters whose gradients can be set anew."""

    def __init__(self, shapes: list[tuple[int, ...]], device: str) -> None:
        torch.manual_seed(0)
        self.parameters = [torch.randn(shape, device=device).requires_grad_() for shape in shapes]
        self.source = [torch.randn_like(p) for p in self.parameters]
        for p in self.parameters:
            p.grad = torch.zeros_like(p)

    @property
    def tensors(self) -> list[Tensor]:
        return [p.grad for p in self.parameters if p.grad is not None]

    @torch.no_grad()
    def reset(self) -> None:
        torch._foreach_copy_(self.tensors, self.source)


def timed(call: Callable[[], object], device: str) -> float:
    """Microseconds of one call."""
    if device == "cpu":
        start = time.process_time_ns()
        call()
        return (time.process_time_ns() - start) / 1e3
    torch.cuda.synchronize()
    start = time.perf_counter_ns()
    call()
    torch.cuda.synchronize()
    return (time.perf_counter_ns() - start) / 1e3


def pair(
    names: tuple[str, str, str],
    gradients: Gradients,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    rounds: int,
    device: str,
) -> Pair:
    """Take turns; the first two turns are not counted."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 2):
        for which in (0, 1) if turn % 2 else (1, 0):
            gradients.reset()
            spent = timed((ours, theirs)[which], device)
            if turn >= 2:
                times[which].append(spent)
    ratios = np.array(times[0]) / np.array(times[1])
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75]).tolist()
    return Pair(*names, device, float(np.median(times[0])), float(np.median(times[1])), middle, low, high)


def clips(device: str, rounds: int) -> Iterator[Pair]:
    """Our global norm, per-tensor norms kept, by torch's."""
    for size, shapes in SIZES.items():
        gradients = Gradients(shapes, device)
        for kind, bound in (("not reached", LOOSE), ("scaling", TIGHT)):
            names = (f"GlobalNorm, {kind}", "clip_grad_norm_", size)
            yield against_torch(names, gradients, GlobalNorm(bound), bound, rounds=rounds, device=device)


def against_torch(
    names: tuple[str, str, str], gradients: Gradients, clipper: Clipper, bound: float, *, rounds: int, device: str
) -> Pair:
    """One clipper by torch's global norm."""
    return pair(
        names,
        gradients,
        lambda: clipper(gradients.parameters),
        lambda: torch.nn.utils.clip_grad_norm_(gradients.parameters, bound),
        rounds=rounds,
        device=device,
    )


def members(device: str, rounds: int) -> Iterator[Pair]:
    """Every clipper by torch's global norm."""
    size = "2.4M in 120"
    gradients = Gradients(SIZES[size], device)
    for name, make in CLIPPERS.items():
        yield against_torch((name, "clip_grad_norm_", size), gradients, make(), 1.0, rounds=rounds, device=device)


def separate(tensors: list[Tensor]) -> None:
    """L1, L2, sum, largest and zeros of each tensor, one reduction each."""
    for x in tensors:
        x.abs().sum(), torch.linalg.vector_norm(x), x.sum(), x.abs().amax(), (x == 0).sum()


def one_kernel() -> Callable[[list[Tensor]], None]:
    """The same five as compiled kernels for :data:`AT_ONCE` tensors each: a call costs as much as 20,000 numbers."""

    def five(x: Tensor) -> Tensor:
        magnitude = x.abs()
        zeros = (magnitude == 0).float().sum()  # counting integers is slower
        return torch.stack((magnitude.sum(), x.square().sum().sqrt(), x.sum(), magnitude.amax(), zeros))

    @torch.compile(dynamic=True)
    def several(tensors: list[Tensor]) -> list[Tensor]:
        return [five(x) for x in tensors]

    def every(tensors: list[Tensor]) -> None:
        flat = [x.view(-1) for x in tensors]
        for start in range(0, len(flat), AT_ONCE):
            several(flat[start : start + AT_ONCE])

    return every


def statistics(device: str, rounds: int, *, compiled: bool) -> Iterator[Pair]:
    """Five statistics of each tensor by a bare read of the same memory."""
    ways: dict[str, Callable[[list[Tensor]], object]] = {"stats.moments": stats.moments, "separate": separate}
    if compiled:
        ways["compiled kernel"] = one_kernel()
    for size in ("2.4M in 120", "38M in 120"):
        gradients = Gradients(SIZES[size], device)
        memory = torch.cat([s.view(-1) for s in gradients.source])
        for name, way in ways.items():
            names = (f"five statistics, {name}", "bare read", size)
            ours = partial(way, gradients.tensors)
            yield pair(names, gradients, ours, memory.sum, rounds=rounds, device=device)


def measure(*, quick: bool) -> list[Pair]:
    """Everything, on the CPU and on a GPU where there is one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rounds = 9 if quick else 41
    found = []
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        found += [*clips(device, rounds), *members(device, rounds)]
        found += statistics(device, max(5, rounds // 4), compiled=not quick)
    torch.set_num_threads(threads)
    return found


def show(console: Console, pairs: list[Pair]) -> None:
    """One row a pair."""
    table = Table(title="Clipping and statistics: time by that of a reference", title_justify="left")
    for column in ("what", "by", "gradients", "device"):
        table.add_column(column)
    for column in ("us", "reference us", "ratio (quartiles)"):
        table.add_column(column, justify="right")
    for p in pairs:
        ratio = f"{p.ratio:.2f} ({p.low:.2f}-{p.high:.2f})"
        table.add_row(p.what, p.reference, p.size, p.device, f"{p.ours_us:,.0f}", f"{p.reference_us:,.0f}", ratio)
    console.print(table)
