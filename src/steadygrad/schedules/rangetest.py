"""Reading a learning-rate range test: where the loss falls fastest, where it is lowest, where it diverges.

Shapes legend: n = points, one for each step of the sweep. Needs no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

#: The sweep has diverged once the loss is this many times the best.
DIVERGED = 4.0
#: Decay of the running mean that is watched during the sweep.
MEMORY = 0.8
#: A best loss below this share of the first counts as this much: noise around zero is no divergence.
FLOOR = 0.1
#: Fewer points than this say nothing.
FEWEST = 12
#: A fall of this many standard deviations of the smoothed curve is one: the lowest of many points is low by chance.
SURE = 6.0
#: Share of the fall that has happened where it counts as begun.
BEGUN = 0.1
#: Half-widths of the smoothing window, in points; the one that predicts best is used.
WINDOWS = (2.0, 4.0, 7.0, 12.0, 20.0)


class Divergence:
    """Watches the losses of a sweep as they come. ``limit`` is the loss that counts as diverged.

    Example:
        >>> watch = Divergence()
        >>> [watch.seen(loss) for loss in (2.0, 1.0, 1.5, float("nan"))]
        [False, False, False, True]
    """

    def __init__(self) -> None:
        self.limit = math.inf
        self._mean, self._weight = 0.0, 0.0
        self._first, self._best = math.nan, math.inf

    def seen(self, loss: float) -> bool:
        """Take the next loss, and say whether the sweep has diverged."""
        if not math.isfinite(loss):
            return True
        if not self._weight:
            self._first = loss
        self._mean = MEMORY * self._mean + (1.0 - MEMORY) * loss
        self._weight = MEMORY * self._weight + 1.0 - MEMORY
        smooth = self._mean / self._weight
        self._best = min(self._best, smooth)
        # Of a positive loss this is 4 times the best; it also has a meaning for losses below zero.
        self.limit = self._best + (DIVERGED - 1.0) * max(abs(self._best), FLOOR * abs(self._first))
        return smooth > self.limit


@dataclass(frozen=True, slots=True)
class RangeTest:
    """What a sweep says.

    Attributes:
        rates: learning rate of each update, ``[n]``, rising.
        losses: loss after that update, ``[n]``; the last may be NaN or Inf.
        smoothed: the losses without their noise, ``[n]``; NaN where nothing can be said.
        steepest: the rate at which the loss falls fastest per decade of the rate; None if it never falls beyond noise.
        lowest: the rate at which it is lowest, or None.
        complete: whether the loss rose again after its lowest point; if not, higher rates may be better.
        reason: why nothing can be suggested, or empty.
    """

    rates: Values
    losses: Values
    smoothed: Values
    steepest: float | None
    lowest: float | None
    complete: bool
    reason: str = ""

    @property
    def suggested(self) -> float | None:
        """The rate to try first: where the loss falls fastest."""
        return self.steepest

    @property
    def careful(self) -> float | None:
        """A rate on the safe side: a tenth of the lowest, at most the steepest."""
        if self.steepest is None or self.lowest is None:
            return None
        return min(self.steepest, self.lowest / 10)


def read_range_test(rates: list[float], losses: list[float]) -> RangeTest:
    """Analyse a sweep over rates that rise by the same factor at each step.

    Slopes are taken with respect to the logarithm of the rate, from straight lines fitted locally to the points on both
    sides. A running mean would lag, and so would its slope: to rates that are too high.

    Args:
        rates: ``[n]``, positive and rising.
        losses: ``[n]``, the loss after an update with that rate.

    Example:
        >>> rates = [10 ** (-6 + t / 14) for t in range(99)]
        >>> losses = [1 - 0.9 / (1 + (1e-3 / rate) ** 2) + (rate / 0.3) ** 4 for rate in rates]
        >>> found = read_range_test(rates, losses)
        >>> f"{found.steepest:.0e} {found.lowest:.0e} {found.complete}"
        '1e-03 4e-02 True'
    """
    x, y = np.array(rates, dtype=np.float64), np.array(losses, dtype=np.float64)
    finite = np.isfinite(y)
    known = int(finite.argmin()) if not finite.all() else len(y)
    smoothed = np.full(len(y), np.nan)
    if known < FEWEST:
        why = f"only {known} updates with a finite loss were seen, and {FEWEST} are needed"
        return RangeTest(x, y, smoothed, None, None, known < len(y), why)
    # What shoots up at the end would bend the curve before it.
    bounded = np.minimum(y[:known], y[: known // 4].max())
    smoothed[:known], slopes, half = _smooth(np.log10(x[:known]), bounded)
    at = int(np.argmin(smoothed[:known]))
    noise = _noise(bounded) / math.sqrt(half)
    start = float(np.median(smoothed[: max(1, known // 4)]))
    fall = start - float(smoothed[at])
    after = float(smoothed[at:known].max() - smoothed[at])
    complete = known < len(y) or after > max(SURE * noise, 0.2 * fall)
    if fall <= max(SURE * noise, 1e-9 * abs(float(smoothed[0]))):
        return RangeTest(x, y, smoothed, None, None, complete, "the loss never fell by more than its noise")
    if at < known // 4:
        why = "the loss was lowest near the start of the sweep; begin with lower rates (--low)"
        return RangeTest(x, y, smoothed, None, None, complete, why)
    # Noise has slopes, too: only the last way down from the level of the start counts.
    begin = int(np.flatnonzero(smoothed[: at + 1] >= start - BEGUN * fall)[-1])
    steepest = begin + int(np.argmin(slopes[begin : at + 1]))
    return RangeTest(x, y, smoothed, float(x[steepest]), float(x[at]), complete)


def _noise(y: Values) -> float:
    """Standard deviation from one point to the next; a median, so that neither trend nor the last spike counts."""
    return float(np.median(np.abs(np.diff(y)))) * 1.4826 / math.sqrt(2.0)


def _smooth(x: Values, y: Values) -> tuple[Values, Values, float]:
    """Value and slope at each point, with the window that best predicts each point from the others."""
    best = (math.inf, y, y, 0.0)
    for half in WINDOWS:
        value, slope, own = _local_lines(x, y, half)
        error = float(np.mean(np.abs((y - value) / (1.0 - own))))
        best = min(best, (error, value, slope, half), key=lambda fit: fit[0])
    return best[1:]


def _local_lines(x: Values, y: Values, half: float) -> tuple[Values, Values, Values]:
    """Straight lines fitted around each point, with tricube weights over the index.

    Returns:
        Value, slope, and the weight of the point's own ``y`` in its value, each ``[n]``.
    """
    index = np.arange(len(x), dtype=np.float64)
    weights = np.clip(1.0 - np.abs((index[:, None] - index[None, :]) / (half + 1.0)) ** 3, 0.0, None) ** 3
    weights /= weights.sum(1, keepdims=True)
    mean_x, mean_y = weights @ x, weights @ y
    away = x[None, :] - mean_x[:, None]
    spread = (weights * away**2).sum(1)
    spread = np.where(spread > 0, spread, np.inf)
    slopes = (weights * away * y[None, :]).sum(1) / spread
    own = weights.diagonal() * (1.0 + (x - mean_x) ** 2 / spread)
    return mean_y + slopes * (x - mean_x), slopes, own
