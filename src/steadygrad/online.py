"""One-pass estimators on plain floats: bounded memory however long the run, deterministic, NaN-safe."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass
class Spread:
    """Running centre and mean absolute deviation, to ask whether a value is far above the recent ones.

    Frozen on unusual and non-finite values, so that one spike does not hide the next.

    Example:
        >>> s = Spread()
        >>> for v in [1.0, 1.1, 0.9] * 5: s.add(v)
        >>> s.unusual(1.2), s.unusual(9.0), s.unusual(float("nan"))
        (False, True, True)
    """

    decay: float = 0.1
    warmup: int = 8
    factor: float = 8.0
    count: int = 0
    centre: float = 0.0
    deviation: float = 0.0

    def add(self, value: float) -> None:
        """Take a value in."""
        if math.isfinite(value) and not self.unusual(value):
            self.take(value)

    def take(self, value: float) -> None:
        """Take in a value that is known not to be unusual."""
        self.count += 1
        rate = max(self.decay, 1.0 / self.count)
        distance = abs(value - self.centre) if self.count > 1 else 0.0
        self.centre += rate * (value - self.centre)
        self.deviation += rate * (distance - self.deviation)

    def unusual(self, value: float) -> bool:
        """Whether the value lies far above the recent spread (one-sided). Non-finite values always do."""
        if not math.isfinite(value):
            return True
        margin = self.factor * self.deviation + 0.05 * abs(self.centre)
        return self.count >= self.warmup and value > self.centre + margin


@dataclass
class Series:
    """A scalar over steps in bounded memory: the first values exactly, the last exactly, and bins over the whole run.

    When the bins are full, neighbours merge and the bin width doubles, so 2 * ``bins`` rows describe any length.
    """

    first: int = 64
    last: int = 256
    bins: int = 512
    count: int = 0
    head: list[tuple[int, float]] = field(default_factory=list)
    tail: list[tuple[int, float]] = field(default_factory=list)
    nonfinite: int = 0
    first_nonfinite: int | None = None
    _width: int = 1
    _bins: list[list[float]] = field(default_factory=list)  # [first step, finite count, sum, min, max]

    def add(self, step: int, value: float) -> None:
        """Append a value."""
        self.count += 1
        if len(self.head) < self.first:
            self.head.append((step, value))
        self.tail.append((step, value))
        if len(self.tail) >= 2 * self.last:
            del self.tail[: -self.last]
        if not math.isfinite(value):
            self.nonfinite += 1
            if self.first_nonfinite is None:
                self.first_nonfinite = step
        if (self.count - 1) % self._width == 0:
            self._bins.append([step, 0, 0.0, math.inf, -math.inf])
        if math.isfinite(value):
            row = self._bins[-1]
            row[1] += 1
            row[2] += value
            row[3] = min(row[3], value)
            row[4] = max(row[4], value)
        if len(self._bins) >= 2 * self.bins and (self.count % self._width) == 0:
            self._merge()

    def _merge(self) -> None:
        pairs = zip(self._bins[::2], self._bins[1::2], strict=True)
        self._bins = [[a[0], a[1] + b[1], a[2] + b[2], min(a[3], b[3]), max(a[4], b[4])] for a, b in pairs]
        self._width *= 2

    def rows(self) -> Iterator[tuple[int, float, float, float]]:
        """(first step, mean, min, max) of each bin that holds a finite value."""
        for start, count, total, low, high in self._bins:
            if count:
                yield int(start), total / count, low, high

    def values(self) -> NDArray[np.float64]:
        """Bin means over the whole run (exact values while the run is short)."""
        return np.array([mean for _, mean, _, _ in self.rows()])

    def steps(self) -> NDArray[np.int64]:
        """First step of each bin, aligned with :meth:`values`."""
        return np.array([start for start, _, _, _ in self.rows()], dtype=np.int64)

    def opening(self, n: int) -> NDArray[np.float64]:
        """The first ``n`` finite values, exactly (at most ``first``)."""
        return np.array([v for _, v in self.head if math.isfinite(v)][:n])

    def recent(self, n: int) -> NDArray[np.float64]:
        """The last ``n`` finite values, exactly (at most ``last``)."""
        finite = [v for _, v in self.tail[-self.last :] if math.isfinite(v)]
        return np.array(finite[max(0, len(finite) - n) :])


def median(values: NDArray[np.float64]) -> float:
    """Median of the finite values; NaN if there are none.

    >>> median(np.array([1.0, np.nan, 3.0])), median(np.array([np.nan]))
    (2.0, nan)
    """
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else math.nan


def largest(values: NDArray[np.float64]) -> float:
    """Largest finite value; NaN if there is none."""
    finite = values[np.isfinite(values)]
    return float(finite.max()) if finite.size else math.nan
