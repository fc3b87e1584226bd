"""Reading the value of a remedy."""

from __future__ import annotations

import math
from dataclasses import dataclass

from steadygrad.errors import InputError
from steadygrad.records import RemedySpec


def positive(spec: RemedySpec, default: float) -> float:
    """A positive number, or the default where none is given."""
    return _number(spec, spec.value) if spec.value else default


def one_of(spec: RemedySpec, *names: str) -> str:
    """One of the names; the first is the default."""
    if spec.value and spec.value not in names:
        raise InputError(f"{spec.code} takes one of {', '.join(names)}; received {spec.value!r}.")
    return spec.value or names[0]


@dataclass(frozen=True)
class Rate:
    """A new rate: a number, or a multiple of the script's own."""

    value: float
    relative: bool

    def factor(self, base: float) -> float:
        """What to multiply with, where the script's own rate is ``base``."""
        return self.value if self.relative or base <= 0 else self.value / base


def rate(spec: RemedySpec, default: str) -> Rate:
    """``0.01`` is a rate; ``/10`` and ``x10`` are relative to the script's own."""
    text = spec.value or default
    if text[0] == "/":
        return Rate(1 / _number(spec, text[1:]), relative=True)
    return Rate(_number(spec, text[1:] if text[0] == "x" else text), relative=text[0] == "x")


def _number(spec: RemedySpec, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"The value of {spec.code} must be a positive number; received {spec.value!r}.")
    return value
