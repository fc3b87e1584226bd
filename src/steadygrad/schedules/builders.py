"""Named schedules that are sequences of simpler forms: what they are made of is what they print as."""

from __future__ import annotations

from steadygrad.errors import InputError
from steadygrad.schedules.base import Schedule, checked, sequence
from steadygrad.schedules.decays import Constant
from steadygrad.schedules.ramps import Cosine, Halving, Linear, Sqrt, Warmup

_DECAYS = {"linear": Linear, "cosine": Cosine, "sqrt": Sqrt, "halving": Halving}


def wsd(
    steps: float,
    *,
    warmup: float,
    decay: float,
    shape: str = "linear",
    start: float | str = "1/W",
    end: float = 0.0,
) -> Schedule:
    """Warmup, stable, decay. The stable length is what remains.

    Args:
        steps: length of the whole.
        warmup: steps of warm-up.
        decay: steps of the decay at the end.
        shape: of the decay: ``linear``, ``cosine``, ``sqrt`` or ``halving``.
        start: of the warm-up, see :class:`Warmup`.
        end: factor at the end.

    Source: Hu et al., "MiniCPM" (2024).

    Raises:
        InputError: warm-up and decay together are longer than the whole, or the shape is unknown.

    Example:
        >>> print(wsd(1000, warmup=100, decay=200))
        warmup(100) > constant(700) > linear(200)
    """
    if shape not in _DECAYS:
        raise InputError(f"the shape of the decay is one of {', '.join(_DECAYS)}, not {shape!r}")
    stable = checked("steps", steps) - checked("warmup", warmup) - checked("decay", decay)
    if stable < 0:
        raise InputError(
            f"warm-up ({warmup:g}) and decay ({decay:g}) must fit into {steps:g} steps; they need {warmup + decay:g}"
        )
    return sequence(Warmup(warmup, start=start), Constant(stable), _DECAYS[shape](decay, end=end))


def one_cycle(
    steps: int,
    *,
    peak: float = 0.3,
    start: float = 1 / 25,
    end: float = 1 / 25e4,
    shape: str = "cosine",
    three_phase: bool = False,
) -> Schedule:
    """The 1cycle policy: up to the base rate, then far down. The base rate is torch's ``max_lr``.

    As in torch, the first of ``steps`` updates has the factor ``start`` and the last one ``end``, so the schedule is
    ``steps - 1`` long; after that it holds.

    Args:
        steps: number of updates.
        peak: share of them until the peak.
        start: first factor (torch: ``1 / div_factor``).
        end: last factor (torch: ``1 / (div_factor * final_div_factor)``).
        shape: ``cosine`` or ``linear``.
        three_phase: come down to ``start`` as fast as it went up, then to ``end``.

    Source: Smith and Topin, "Super-Convergence" (2018); ``torch.optim.lr_scheduler.OneCycleLR``.

    Raises:
        InputError: there are too few steps to go up and down.

    Example:
        >>> schedule = one_cycle(101)
        >>> schedule(0), round(schedule(29.3), 4), schedule(100)
        (0.04, 1.0, 4e-06)
    """
    if shape not in ("cosine", "linear"):
        raise InputError(f"the shape of a cycle is cosine or linear, not {shape!r}")
    ramp = {"cosine": Cosine, "linear": Linear}[shape]
    up = checked("peak", peak, high=1.0) * checked("steps", steps, low=2) - 1.0
    rest = steps - 1.0 - up - (up if three_phase else 0.0)
    if up <= 0 or rest <= 0:
        raise InputError(
            f"{steps} steps with the peak after {peak:g} of them leave no room to go up and down; "
            f"use more steps or another peak"
        )
    rise = ramp(up, start=start, end=1.0)
    if three_phase:
        return sequence(rise, ramp(up, start=1.0, end=start), ramp(rest, start=start, end=end))
    return sequence(rise, ramp(rest, start=1.0, end=end))
