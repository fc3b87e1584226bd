"""Forms that end: ramps from one factor to another, warm-up, and cosine cycles.

Legend: ``t`` steps made so far, ``r = t / steps`` the share that is over. Lengths may be fractions of a step, and 0: an
empty piece, over before it began.
"""

# ruff: noqa: D102 (what is overridden is described where it is declared)
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any

from steadygrad.errors import InputError
from steadygrad.schedules.base import MAX, Schedule, check

_POSITIVE: dict[str, Any] = {"open_low": True}
_SHARE: dict[str, Any] = {"high": 1.0, "open_low": True}


@dataclass(frozen=True)
class _Ramp(Schedule):
    """From ``start`` to ``end`` over ``steps``. The shape falls from 1 at ``r = 0`` to 0 at ``r = 1``."""

    steps: float
    _: KW_ONLY
    start: float = 1.0
    end: float = 0.0

    def __post_init__(self) -> None:
        check(self, steps={}, start={}, end={})

    @property
    def length(self) -> float:
        return self.steps

    def shape(self, r: float) -> float:
        """Share of the way that is left."""
        raise NotImplementedError

    def factor(self, t: float) -> float:
        # An empty ramp is over. This weighting, unlike end + (start - end) * left, is exact at both ends.
        left = self.shape(t / self.steps) if self.steps else 0.0
        return left * self.start + (1.0 - left) * self.end


@dataclass(frozen=True)
class Linear(_Ramp):
    """A straight line from ``start`` to ``end``, up or down; 0 is allowed at either end.

    Args:
        steps: its length.
        start: factor at ``t = 0``.
        end: factor from ``t = steps`` on.

    Source: ``torch.optim.lr_scheduler.LinearLR`` (which refuses to start at 0), ``optax.linear_schedule``.

    Example:
        >>> Linear(100)(25), Linear(100, start=0, end=1)(0)
        (0.75, 0.0)
    """

    def shape(self, r: float) -> float:
        return 1.0 - r


@dataclass(frozen=True)
class Cosine(_Ramp):
    """Half a cosine wave from ``start`` to ``end``: ``end + (start - end) * (1 + cos(pi r)) / 2``. It stays there.

    Args:
        steps: its length.
        start: factor at ``t = 0``.
        end: factor from ``t = steps`` on.

    Source: Loshchilov and Hutter, "SGDR" (2017), without restarts; ``torch.optim.lr_scheduler.CosineAnnealingLR`` up
    to its end (it rises again after that).

    Example:
        >>> Cosine(100)(50), Cosine(100, end=0.1)(100), Cosine(100)(150)
        (0.5, 0.1, 0.0)
    """

    def shape(self, r: float) -> float:
        return (1.0 + math.cos(math.pi * r)) / 2.0


@dataclass(frozen=True)
class Sqrt(_Ramp):
    """``1 - sqrt(r)`` from ``start`` to ``end``: steep first, the best cooldown in the source.

    Args:
        steps: its length.
        start: factor at ``t = 0``.
        end: factor from ``t = steps`` on.

    Source: Hägele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations" (2024).

    Example:
        >>> Sqrt(100)(25)
        0.5
    """

    def shape(self, r: float) -> float:
        return 1.0 - math.sqrt(r)


@dataclass(frozen=True)
class Halving(_Ramp):
    """``2 * 0.5 ** r - 1`` from ``start`` to ``end``: an exponential that reaches its end.

    Args:
        steps: its length.
        start: factor at ``t = 0``.
        end: factor from ``t = steps`` on.

    Source: Megatron-LM, ``lr_wsd_decay_style="exponential"``.

    Example:
        >>> Halving(100)(0), round(Halving(100)(50), 4), Halving(100)(100)
        (1.0, 0.4142, 0.0)
    """

    def shape(self, r: float) -> float:
        return float(2.0 * 0.5**r - 1.0)


@dataclass(frozen=True)
class Polynomial(_Ramp):
    """``(1 - r) ** power`` from ``start`` to ``end``.

    Args:
        steps: its length.
        start: factor at ``t = 0``.
        end: factor from ``t = steps`` on.
        power: above 0; 1 is a straight line.

    Source: ``torch.optim.lr_scheduler.PolynomialLR``, ``transformers.get_polynomial_decay_schedule_with_warmup``.

    Example:
        >>> Polynomial(100, power=2)(50)
        0.25
    """

    _: KW_ONLY
    power: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self, power=_POSITIVE)

    def shape(self, r: float) -> float:
        return float((1.0 - r) ** self.power)


@dataclass(frozen=True)
class Geometric(_Ramp):
    """``start ** (1 - r) * end ** r``: the same ratio from each step to the next. Used by the learning-rate range test.

    Args:
        steps: its length.
        start: factor at ``t = 0``, above 0.
        end: factor from ``t = steps`` on, above 0.

    Source: Smith, "Cyclical Learning Rates for Training Neural Networks" (2017), the range test on a log axis.

    Example:
        >>> [Geometric(2, start=0.01)(t) for t in range(3)]
        [0.01, 0.1, 1.0]
    """

    _: KW_ONLY
    start: float = 1e-3
    end: float = 1.0

    def __post_init__(self) -> None:
        check(self, steps={}, start=_POSITIVE, end=_POSITIVE)

    def factor(self, t: float) -> float:
        r = t / self.steps if self.steps else 1.0
        return float(self.start ** (1.0 - r) * self.end**r)


#: Share of a warm-up that is done at ``r``: the ramps of the same names, backwards.
_RISES: dict[str, Callable[[float], float]] = {
    "linear": lambda r: r,
    "cosine": lambda r: (1.0 - math.cos(math.pi * r)) / 2.0,
    "sqrt": lambda r: 1.0 - math.sqrt(1.0 - r),
}


@dataclass(frozen=True)
class Warmup(Schedule):
    """From a small factor up to 1, to be put in front of any schedule: ``Warmup(200) >> Cosine(800)``.

    Args:
        steps: its length. The next schedule begins at ``t = steps``.
        start: the first step's factor. ``"1/W"`` (default): the ramp is ``(t + 1) / steps``, so that no step is made
            with rate 0. ``"0"`` or 0: it is ``t / steps``. Another number: from there up.
        shape: ``linear``, ``cosine`` or ``sqrt`` (``1 - sqrt(1 - r)``).

    Source: Goyal et al., "Accurate, Large Minibatch SGD" (2017). torchtitan starts at 1/W; transformers, optax, timm
    and Megatron-LM start at 0.

    Raises:
        InputError: ``start`` or ``shape`` is not one of these.

    Example:
        >>> [Warmup(4)(t) for t in range(5)], [Warmup(4, start="0")(t) for t in range(5)]
        ([0.25, 0.5, 0.75, 1.0, 1.0], [0.0, 0.25, 0.5, 0.75, 1.0])
    """

    steps: float
    _: KW_ONLY
    start: float | str = "1/W"
    shape: str = "linear"

    def __post_init__(self) -> None:
        check(self, steps={})
        if self.start == "0":
            object.__setattr__(self, "start", 0)
        if isinstance(self.start, str):
            if self.start != "1/W":
                raise InputError(f"the start of a warm-up is '0', '1/W' or a factor, not {self.start!r}")
        else:
            check(self, start={})
        if self.shape not in _RISES:
            raise InputError(f"the shape of a warm-up is one of {', '.join(_RISES)}, not {self.shape!r}")

    @property
    def length(self) -> float:
        return self.steps

    def factor(self, t: float) -> float:
        if not self.steps:
            return 1.0
        early, first = (1, 0.0) if isinstance(self.start, str) else (0, self.start)
        done = _RISES[self.shape](min(1.0, (t + early) / self.steps))
        return (1.0 - done) * first + done


@dataclass(frozen=True)
class CosineRestarts(Schedule):
    """Cosine decay that starts again: SGDR. Cycle k falls from ``end + (1 - end) * decay**k`` to ``end``.

    Args:
        steps: length of the first cycle.
        growth: each cycle is this many times as long as the one before, at least 1.
        decay: each peak's height above ``end``, relative to the one before, in (0, 1].
        end: factor at the bottom of each cycle.
        cycles: how many; it then stays at the bottom. None: endless.

    Source: Loshchilov and Hutter, "SGDR" (2017); ``torch.optim.lr_scheduler.CosineAnnealingWarmRestarts``.

    Example:
        >>> [CosineRestarts(10, growth=2)(t) for t in (0, 5, 10, 20)]
        [1.0, 0.5, 1.0, 0.5]
    """

    steps: float
    _: KW_ONLY
    growth: float = 1
    decay: float = 1.0
    end: float = 0.0
    cycles: int | None = None

    def __post_init__(self) -> None:
        check(self, steps=_POSITIVE, growth={"low": 1}, decay=_SHARE, end={"high": 1.0}, cycles={"low": 1})
        if self.cycles is not None and self.cycles != int(self.cycles):
            raise InputError(f"cycles is a whole number, not {self.cycles!r}")
        if self.cycles is not None and self.cycles * math.log(self.growth) > math.log(MAX):
            raise InputError(f"{self.cycles} cycles that grow {self.growth:g} times each never end; use fewer")

    @property
    def length(self) -> float:
        return math.inf if self.cycles is None else self.begin(int(self.cycles))

    def begin(self, cycle: int) -> float:
        """The step at which a cycle begins."""
        if self.growth == 1:
            return self.steps * cycle
        if isinstance(self.growth, int):
            return float(self.steps * ((self.growth**cycle - 1) // (self.growth - 1)))
        return self.steps * math.expm1(cycle * math.log(self.growth)) / (self.growth - 1)

    def cycle(self, t: float) -> int:
        """The cycle that step ``t`` is in."""
        if self.growth == 1:
            guess = int(t // self.steps)
        else:
            guess = int(math.log1p(t * (self.growth - 1) / self.steps) / math.log(self.growth))
        while guess > 0 and self.begin(guess) > t:  # the logarithm rounds
            guess -= 1
        while self.begin(guess + 1) <= t:
            guess += 1
        return guess

    def factor(self, t: float) -> float:
        if t >= self.length:
            return self.end
        cycle = self.cycle(t)
        begin = self.begin(cycle)
        r = (t - begin) / (self.begin(cycle + 1) - begin)
        height = (1.0 + math.cos(math.pi * r)) / 2.0 * self.decay**cycle
        return height + (1.0 - height) * self.end
