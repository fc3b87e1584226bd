"""Variants of a remedy that works: its numbers a little smaller and larger, and another rate beside it."""

from __future__ import annotations

import math
from dataclasses import replace

from steadygrad.records import Candidate, RemedySpec
from steadygrad.remedies.catalogue import FAMILIES
from steadygrad.remedies.spec import parse_spec

#: A number is tried this many times smaller and larger; two within less than half of it (in logarithms) are alike.
STEP = 3.0
#: Remedies whose number is a guess, or at best a rule of thumb.
GUESSED = frozenset({
    "lower-lr", "raise-lr", "adaptive-optimizer", "clip-norm", "clip-value", "loosen-clip", "warmup", "add-residual",
})  # fmt: skip
#: Whatever changes a network may ask for smaller steps. Larger ones are a matter of tuning, not of repair.
RATES = ("lower-lr:/3",)
_RATE_CODES = frozenset(remedy.code for remedy in FAMILIES["learning rate"])
#: A factor "/1" or "x1" changes nothing.
_LEAST_FACTOR = 1.3


def nearby(candidate: Candidate, *, rate: float, steps: int) -> list[Candidate]:
    """What differs from a candidate in one number, or by another learning rate.

    Args:
        candidate: what works.
        rate: the learning rate of the script as it is; NaN where it has none.
        steps: of the run: a warm-up is no longer than it.
    """
    found = [
        replace(candidate, specs=(*candidate.specs[:turn], other, *candidate.specs[turn + 1 :]))
        for turn, spec in enumerate(candidate.specs)
        for other in _around(spec, rate, steps)
    ]
    if not any(spec.code in _RATE_CODES for spec in candidate.specs):
        found += [replace(candidate, specs=(*candidate.specs, parse_spec(text))) for text in RATES]
    return found


def alike(one: Candidate, other: Candidate) -> bool:
    """Whether two candidates are the same but for numbers so close that trying both tells nothing."""
    if len(one.specs) != len(other.specs):
        return False
    first, second = (sorted(c.specs, key=lambda spec: (spec.code, spec.place)) for c in (one, other))
    return all(
        (a.code, a.place) == (b.code, b.place) and _close(a.value, b.value) for a, b in zip(first, second, strict=True)
    )


def _around(spec: RemedySpec, rate: float, steps: int) -> list[RemedySpec]:
    """The same remedy with a smaller and a larger number, where that still does what its name says."""
    mark, number = _split(spec.value)
    if spec.code not in GUESSED or number is None:
        return []
    values = [value for value in (number / STEP, number * STEP) if _makes_sense(spec.code, mark, value, rate, steps)]
    return [replace(spec, value=f"{mark}{value:.2g}") for value in values]


def _makes_sense(code: str, mark: str, value: float, rate: float, steps: int) -> bool:
    if mark:
        return value > _LEAST_FACTOR
    if code == "warmup":
        return 2 <= value <= steps
    limits = {"lower-lr": (0.0, rate / _LEAST_FACTOR), "raise-lr": (rate * _LEAST_FACTOR, math.inf)}
    low, high = limits.get(code, (0.0, math.inf))
    return not (value <= low or value >= high)  # a rate that is not known forbids nothing


def _split(text: str) -> tuple[str, float | None]:
    """``/10`` as ("/", 10.0); a number by itself has no mark; a word is no number."""
    mark = text[:1] if text[:1] in ("/", "x") else ""
    try:
        value = float(text[len(mark) :])
    except ValueError:
        return mark, None
    return mark, value if math.isfinite(value) and value > 0 else None


def _close(one: str, other: str) -> bool:
    if one == other:
        return True
    (mark, a), (other_mark, b) = _split(one), _split(other)
    return mark == other_mark and a is not None and b is not None and max(a, b) < math.sqrt(STEP) * min(a, b)
