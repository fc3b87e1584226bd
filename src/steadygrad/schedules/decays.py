"""Forms without an end of their own: constant, drops, exponential and inverse-square-root decay.

Factors multiply the base learning rate (or threshold, momentum, weight decay); ``t`` is the number of steps made.
"""

# ruff: noqa: D102 (what is overridden is described where it is declared)
from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any

from steadygrad.errors import InputError
from steadygrad.schedules.base import Schedule, check, checked

_POSITIVE: dict[str, Any] = {"open_low": True}
_SHARE: dict[str, Any] = {"high": 1.0, "open_low": True}


@dataclass(frozen=True)
class _Endless(Schedule):
    """Forms without an end of their own; ``steps`` gives them one, so that another may follow."""

    @property
    def length(self) -> float:
        steps: float | None = getattr(self, "steps", None)
        return math.inf if steps is None else steps


@dataclass(frozen=True)
class Constant(_Endless):
    """``value``, always.

    Args:
        steps: its length; None: endless.
        value: the factor.

    Source: ``torch.optim.lr_scheduler.ConstantLR(factor=f, total_iters=T)`` is ``Constant(T, value=f) >> Constant()``.

    Example:
        >>> (Constant(5, value=0.1) >> Constant())(4)
        0.1
    """

    steps: float | None = None
    _: KW_ONLY
    value: float = 1.0

    def __post_init__(self) -> None:
        check(self, steps={}, value={})

    def factor(self, t: float) -> float:
        return self.value


@dataclass(frozen=True)
class Step(_Endless):
    """Step decay: ``gamma ** floor(t / every)``.

    Args:
        every: steps between two drops.
        gamma: factor of each drop, in (0, 1].
        steps: its length; None: endless.

    Source: ``torch.optim.lr_scheduler.StepLR``.

    Example:
        >>> [Step(10, gamma=0.5)(t) for t in (0, 9, 10, 25)]
        [1.0, 1.0, 0.5, 0.25]
    """

    every: float
    _: KW_ONLY
    gamma: float = 0.1
    steps: float | None = None

    def __post_init__(self) -> None:
        check(self, every=_POSITIVE, gamma=_SHARE, steps={})

    def factor(self, t: float) -> float:
        return float(self.gamma ** (t // self.every))


@dataclass(frozen=True)
class MultiStep(_Endless):
    """Drops at given steps: ``gamma ** (number of milestones <= t)``.

    Args:
        milestones: steps at which the factor drops, rising; a repeated one drops twice.
        gamma: factor of each drop, in (0, 1].
        steps: its length; None: endless.

    Source: ``torch.optim.lr_scheduler.MultiStepLR``.

    Example:
        >>> [MultiStep([30, 80], gamma=0.5)(t) for t in (29, 30, 80)]
        [1.0, 0.5, 0.25]
    """

    milestones: tuple[float, ...]
    _: KW_ONLY
    gamma: float = 0.1
    steps: float | None = None

    def __post_init__(self) -> None:
        check(self, gamma=_SHARE, steps={})
        try:
            milestones = tuple(checked("a milestone", m) for m in self.milestones)
        except TypeError:
            raise InputError(f"milestones is a list of steps, such as [30, 80], not {self.milestones!r}") from None
        if list(milestones) != sorted(milestones):
            raise InputError(f"milestones must rise, not {list(milestones)}")
        object.__setattr__(self, "milestones", milestones)

    def factor(self, t: float) -> float:
        return float(self.gamma ** sum(m <= t for m in self.milestones))


@dataclass(frozen=True)
class Exponential(_Endless):
    """Exponential decay: ``exp(-rate * t)``, or ``gamma ** (t / every)``. Give one of ``rate`` and ``gamma``.

    Args:
        rate: decay per step, g in ``e^(-g t)``.
        gamma: factor reached after ``every`` steps, in (0, 1].
        every: steps over which ``gamma`` is meant; only together with it.
        steps: its length; None: endless.

    Source: ``torch.optim.lr_scheduler.ExponentialLR`` (``gamma``), ``optax.exponential_decay`` (``gamma``, ``every``).

    Raises:
        InputError: neither or both of ``rate`` and ``gamma`` are given.

    Example:
        >>> round(Exponential(rate=0.01)(100), 4), Exponential(gamma=0.5, every=10)(20)
        (0.3679, 0.25)
    """

    _: KW_ONLY
    rate: float | None = None
    gamma: float | None = None
    every: float = 1
    steps: float | None = None

    def __post_init__(self) -> None:
        check(self, rate={}, gamma=_SHARE, every=_POSITIVE, steps={})
        if (self.rate is None) == (self.gamma is None):
            raise InputError(
                "exponential decay takes either rate, as in exp(-rate * t), or gamma, as in gamma ** t; "
                f"received rate={self.rate!r} and gamma={self.gamma!r}"
            )
        if self.rate is not None and self.every != 1:
            raise InputError(f"every belongs to gamma; with rate={self.rate!r}, divide the rate by {self.every!r}")

    def factor(self, t: float) -> float:
        if self.rate is not None:
            return math.exp(-self.rate * t)
        assert self.gamma is not None
        return float(self.gamma ** (t / self.every))


@dataclass(frozen=True)
class InverseSqrt(_Endless):
    """Inverse square root decay from 1: ``sqrt(timescale / (t + timescale))``.

    ``Warmup(W) >> InverseSqrt(W)`` is the usual schedule of that name. See :class:`Noam` for the original's.

    Args:
        timescale: steps after which ``1 / sqrt(2)`` is reached; as a rule the length of the warm-up before.
        steps: its length; None: endless.

    Source: ``transformers.get_inverse_sqrt_schedule``, after the warm-up.

    Example:
        >>> InverseSqrt(100)(0), InverseSqrt(100)(300)
        (1.0, 0.5)
    """

    timescale: float
    _: KW_ONLY
    steps: float | None = None

    def __post_init__(self) -> None:
        check(self, timescale=_POSITIVE, steps={})

    def factor(self, t: float) -> float:
        return math.sqrt(self.timescale / (t + self.timescale))


@dataclass(frozen=True)
class Noam(_Endless):
    """The Transformer's schedule: ``scale * d_model**-0.5 * min(s**-0.5, s * warmup**-1.5)`` with ``s = t + 1``.

    This is a learning rate rather than a share of one: build the optimizer with ``lr=1.0``. The paper counts steps
    from 1, so the first update, ``t = 0``, is ``s = 1``, and nothing is divided by zero. The peak,
    ``scale / sqrt(d_model * warmup)``, is at ``t = warmup - 1``.

    Args:
        d_model: width of the model.
        warmup: steps until the peak.
        scale: factor on everything.
        steps: its length; None: endless.

    Source: Vaswani et al., "Attention Is All You Need" (2017), section 5.3.

    Example:
        >>> round(Noam(512, warmup=4000)(3999), 6)
        0.000699
    """

    d_model: float
    _: KW_ONLY
    warmup: float = 4000
    scale: float = 1.0
    steps: float | None = None

    def __post_init__(self) -> None:
        check(self, d_model=_POSITIVE, warmup=_POSITIVE, scale={}, steps={})

    def factor(self, t: float) -> float:
        s = t + 1
        return float(self.scale * self.d_model**-0.5 * min(s**-0.5, s * self.warmup**-1.5))
