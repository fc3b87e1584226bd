"""Whether a number is far above what it has been: one-sided, robust, and not taught by what it rejects."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque
from typing import Any

#: Standard deviations of normal numbers per median absolute deviation.
NORMAL = 1.4826


class SpikeTest:
    """A limit for the next value, from the median and the median absolute deviation of the last good ones.

    ``limit = median + max(factor * 1.4826 * MAD, 2 * (largest - median), floor)``, over the good values in the window.
    Twice the reach of the largest good value keeps heavy-tailed losses (tiny batches, policy gradients) from being
    called spikes all the time: on them six deviations are nothing unusual.

    Args:
        window: good values remembered.
        warmup: good values before anything is called a spike.
        factor: deviations above the median.
        log: work on the logarithm: for norms, which are positive and vary by factors.
        floor: never call smaller rises a spike: as a share of the median, or on a log scale as a difference.

    Example:
        >>> test = SpikeTest(warmup=8)
        >>> for value in [1.0, 1.1, 0.9, 1.05] * 3:
        ...     test.add(value)
        >>> 1.1 < test.limit() < 2.0
        True
    """

    def __init__(
        self, *, window: int = 128, warmup: int = 20, factor: float = 6.0, log: bool = False, floor: float = 0.1
    ) -> None:
        self.window, self.warmup, self.factor, self.log, self.floor = window, warmup, factor, log, floor
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []

    def __len__(self) -> int:
        return len(self._recent)

    def add(self, value: float) -> None:
        """Take a good value in. What is not finite, or not positive on a log scale, is left out."""
        if self.log:
            value = math.log(value) if value > 0 else math.nan
        if not math.isfinite(value):
            return
        self._recent.append(value)
        insort(self._sorted, value)
        if len(self._recent) > self.window:
            del self._sorted[bisect_left(self._sorted, self._recent.popleft())]

    def median(self) -> float:
        """Median of the good values; NaN where there are none."""
        middle = _median(self._sorted)
        return math.exp(middle) if self.log else middle

    def limit(self) -> float:
        """Above this a value is a spike; infinite during the warm-up."""
        if len(self._recent) < self.warmup:
            return math.inf
        middle = _median(self._sorted)
        deviation = NORMAL * _median(sorted(abs(v - middle) for v in self._sorted))
        floor = self.floor if self.log else self.floor * abs(middle)
        limit = middle + max(self.factor * deviation, 2 * (self._sorted[-1] - middle), floor)
        return math.exp(min(limit, 700.0)) if self.log else limit

    def state_dict(self) -> dict[str, Any]:
        """The values in the window."""
        return {"values": list(self._recent)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from stored values."""
        self._recent = deque(state["values"])
        self._sorted = sorted(self._recent)


def _median(ordered: list[float]) -> float:
    if not ordered:
        return math.nan
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
