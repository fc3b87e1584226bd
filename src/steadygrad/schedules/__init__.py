"""Schedules in closed form: a factor for every step, for learning rates, clip thresholds, momentum or weight decay.

>>> from steadygrad.schedules import Cosine, Warmup, parse
>>> schedule = Warmup(200) >> Cosine(800)
>>> schedule(0), schedule(200), schedule(600), schedule(5000)
(0.005, 1.0, 0.5, 0.0)
>>> print(schedule)
warmup(200) > cosine(800)
>>> parse("warmup(200) > cosine(800)") == schedule
True

The forms and the text need no torch; :class:`ScheduledLR` and :class:`Driver` put them to work on an optimizer.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from steadygrad.schedules.base import Joint, Product, Scaled, Schedule, Sequence, Strict, continued, sequence
from steadygrad.schedules.builders import one_cycle, wsd
from steadygrad.schedules.decays import Constant, Exponential, InverseSqrt, MultiStep, Noam, Step
from steadygrad.schedules.ramps import Cosine, CosineRestarts, Geometric, Halving, Linear, Polynomial, Sqrt, Warmup
from steadygrad.schedules.text import parse

if TYPE_CHECKING:
    from steadygrad.schedules.drivers import Driver, ScheduledLR

__all__ = [
    "Constant",
    "Cosine",
    "CosineRestarts",
    "Driver",
    "Exponential",
    "Geometric",
    "Halving",
    "InverseSqrt",
    "Joint",
    "Linear",
    "MultiStep",
    "Noam",
    "Polynomial",
    "Product",
    "Scaled",
    "Schedule",
    "ScheduledLR",
    "Sequence",
    "Sqrt",
    "Step",
    "Strict",
    "Warmup",
    "continued",
    "one_cycle",
    "parse",
    "sequence",
    "wsd",
]


def __getattr__(name: str) -> Any:
    """Import what needs torch on first use."""
    if name in ("Driver", "ScheduledLR"):
        return getattr(import_module("steadygrad.schedules.drivers"), name)
    raise AttributeError(f"module 'steadygrad.schedules' has no attribute {name!r}")
