"""A loss curve in a few robust numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from steadygrad.history import Array
from steadygrad.online import Series

#: Values that count as the beginning.
OPENING = 16


@dataclass(frozen=True)
class LossShape:
    """A loss curve in a few robust numbers. ``noise`` is the typical step-to-step scatter around the trend."""

    n: int
    initial: float  # the very first value
    start: float  # what the untouched model gives: the first finite value, as a rule
    end: float  # median of the last tenth
    best: float  # lowest smoothed value
    worst: float  # highest smoothed value
    noise: float
    lag1: float  # autocorrelation of the detrended curve: 0 white noise, -1 alternation
    lowest: float
    early: float  # median of the first quarter
    late: float  # median of the last quarter
    nonfinite: int
    first_nonfinite: int | None

    @property
    def drop(self) -> float:
        """How far the loss fell from its start, in units of the noise (of a median, hence smaller)."""
        return (self.start - self.end) / max(self.noise, 1e-12 + 1e-6 * abs(self.start))

    @property
    def relative_drop(self) -> float:
        """Share of the starting loss that is gone at the end."""
        return (self.start - self.end) / max(abs(self.start), 1e-12)


def loss_shape(series: Series) -> LossShape | None:
    """Describe a loss curve; None when there is no finite value."""
    values = series.values()
    if not len(values):
        return None
    n = len(values)
    smooth = _smooth(values, max(1, min(9, n // 8)))
    detrended = values - _smooth(values, max(3, min(15, n // 4)))
    lag1 = 0.0
    if n > 8 and float(np.var(detrended)) > 0:
        centred = detrended - detrended.mean()
        lag1 = float(np.mean(centred[1:] * centred[:-1]) / np.mean(centred**2))
    opening = series.opening(OPENING)
    recent = series.recent(max(3, min(64, series.count // 10)))
    return LossShape(
        n=series.count,
        initial=float(series.head[0][1]),
        start=_start(opening if len(opening) else values),
        end=float(np.median(recent)) if len(recent) else float(values[-1]),
        best=float(smooth.min()),
        worst=float(smooth.max()),
        noise=scatter(values),
        lag1=lag1,
        lowest=float(values.min()),
        early=float(np.median(values[: max(1, n // 4)])),
        late=float(np.median(values[-max(1, n // 4) :])),
        nonfinite=series.nonfinite,
        first_nonfinite=series.first_nonfinite,
    )


def scatter(values: Array) -> float:
    """Standard deviation of a curve's values around its trend, if they are normal: from the steps between neighbours.

    Example:
        >>> round(scatter(np.array([1.0, 3.0, 1.0, 3.0, 1.0])), 3), scatter(np.array([5.0]))
        (2.097, 0.0)
    """
    return 1.4826 * float(np.median(np.abs(np.diff(values)))) / math.sqrt(2) if len(values) > 1 else 0.0


def _start(opening: Array) -> float:
    """The first value; where the batches after it differ manyfold, back and forth, the largest of the first ones.

    So it is with losses that sum over what was matched: a detector's first boxes meet few targets in one batch and many
    in the next. A loss that diverges leaves its first value and does not come back to it again and again.
    """
    first = float(opening[0])
    far, near = opening > 3 * first, opening <= 1.5 * first
    swings = np.count_nonzero(np.diff(far[far | near]))
    return float(opening.max()) if first > 0 and swings >= 3 else first


def _smooth(values: Array, width: int) -> Array:
    """Running median, which neither spikes nor the ends bend much."""
    if width <= 1:
        return values
    half = width // 2
    padded = np.pad(values, half, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)
    medians: Array = np.median(windows, axis=1)
    return medians
