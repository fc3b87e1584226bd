"""Robust numbers of loss curves, and intervals from a few repetitions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, median, stdev

#: Points kept of a curve.
POINTS = 160
_FEWEST = 5

#: Quantiles of Student's t at 0.95, by degrees of freedom 1, 2, ...: the bounds of a two-sided 90% interval.
_T95 = (
    6.3138, 2.9200, 2.3534, 2.1318, 2.0150, 1.9432, 1.8946, 1.8595, 1.8331, 1.8125,
    1.7959, 1.7823, 1.7709, 1.7613, 1.7531, 1.7459, 1.7396, 1.7341, 1.7291, 1.7247,
)  # fmt: skip


def end_loss(losses: Sequence[float]) -> float | None:
    """The loss at the end: median of the last tenth, of at least five values. None where most of them are not finite.

    >>> end_loss([9.0, 4.0, 3.0, 2.0, 50.0, 1.0, 2.0])
    2.0
    """
    tail = losses[-max(_FEWEST, len(losses) // 10) :]
    finite = [value for value in tail if math.isfinite(value)]
    return median(finite) if 2 * len(finite) > len(tail) else None


def smoothed(losses: Sequence[float], at: int, width: int = 9) -> float:
    """Median of the finite values in the ``width`` steps up to step ``at``; NaN where there is none."""
    finite = [value for value in losses[max(0, at - width) : at] if math.isfinite(value)]
    return median(finite) if finite else math.nan


def thinned(losses: Sequence[float], points: int = POINTS) -> tuple[tuple[int, float], ...]:
    """A curve as at most ``points`` pairs of step and loss, the first and the last among them.

    >>> thinned([3.0, 2.0, 1.0, 0.5, 0.2], points=3)
    ((1, 3.0), (3, 1.0), (5, 0.2))
    """
    n = len(losses)
    if n <= points:
        return tuple(enumerate(losses, start=1))
    kept = sorted({round(i * (n - 1) / (points - 1)) for i in range(points)})
    return tuple((i + 1, losses[i]) for i in kept)


def interval(values: Sequence[float], *, least_spread: float = 0.0) -> tuple[float, float] | None:
    """Two-sided 90% interval of the mean by Student's t; None for fewer than two values.

    Args:
        values: repetitions, e.g. paired differences between seeds.
        least_spread: a standard deviation known from elsewhere, used where that of ``values`` is smaller.
    """
    if len(values) < 2:
        return None
    freedom = len(values) - 1
    quantile = _T95[freedom - 1] if freedom <= len(_T95) else 1.6449 + 1.6 / freedom
    half = quantile * max(stdev(values), least_spread) / math.sqrt(len(values))
    return fmean(values) - half, fmean(values) + half
