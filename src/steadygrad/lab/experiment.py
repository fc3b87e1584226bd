"""What an experiment is: a claim, arms that are run with the same seed, and conditions under which the claim is judged.

Shapes legend: a *seed* gives one run of every arm; a condition turns these runs into one number, its effect.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import plotly.graph_objects as go

#: What a loss that is not finite, or beyond it, counts as: a run that diverged is not endlessly worse than another.
WORST = 1e6


@dataclass(slots=True)
class Run:
    """One arm with one seed: curves over steps, and numbers. Plain data, so that it can be stored as JSON."""

    curves: dict[str, list[float]] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)

    def final(self, curve: str = "loss") -> float:
        """The end of a curve: the mean of its last tenth, and :data:`WORST` where that is not finite or larger."""
        values = self.curves[curve]
        last = values[-max(1, len(values) // 10) :]
        mean = sum(last) / len(last)
        return min(mean, WORST) if math.isfinite(mean) else WORST


#: Every arm by name, with one seed.
Arms = dict[str, Run]


@dataclass(frozen=True, slots=True)
class Condition:
    """A circumstance under which a claim may hold, and the effect that shows it.

    ``name`` reads on from "holds only when ...". The claim holds under it if the whole 95% interval of the mean effect
    lies above ``above``. ``unit`` is ``factor`` for effects that are logarithms to base 10 (shown as factors),
    ``share`` for ratios (shown in percent) and ``difference`` for all else; ``what`` says what the number is.
    """

    name: str
    what: str
    effect: Callable[[Arms], float]
    above: float
    unit: Literal["factor", "share", "difference"] = "factor"

    def show(self, value: float) -> str:
        """A value in words a reader knows: a factor, a percentage or a number."""
        if self.unit == "factor":
            if abs(value) > 6:
                return "×>1e6" if value > 0 else "×<1e-6"
            return f"×{10**value:.3g}" if abs(value) < 3.5 else f"×{10**value:.0e}"
        return f"{value:.0%}" if self.unit == "share" else f"{value:.3g}"


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure with its title and how to read it."""

    name: str
    title: str
    caption: str
    figure: go.Figure


#: Arms of every seed, in the order of the seeds.
Runs = Mapping[int, Arms]


@dataclass(frozen=True, slots=True)
class Experiment:
    """A claim put to the test.

    ``arms(seed, scale)`` runs everything that one seed needs; ``scale`` of less than 1 asks for a shorter form of it.
    ``note`` says what the measurement teaches beyond the verdict.
    """

    name: str
    title: str
    claim: str
    source: str
    arms: Callable[[int, float], Arms]
    conditions: tuple[Condition, ...]
    pictures: Callable[[Runs], Sequence[Picture]]
    note: str = ""
    shared: str = ""

    @property
    def stored_as(self) -> str:
        """The name under which its runs are kept; experiments with the same runs name it in ``shared``."""
        return self.shared or self.name


def log_ratio(worse: float, better: float) -> float:
    """How many times larger, as a logarithm to base 10; both are kept within 1e-12 and :data:`WORST`.

    Example:
        >>> log_ratio(100.0, 1.0), log_ratio(math.nan, 1.0)
        (2.0, 6.0)
    """
    worse, better = (min(max(v, 1e-12), WORST) if math.isfinite(v) else WORST for v in (worse, better))
    return math.log10(worse / better)


def less_loss(arm: str, than: str, curve: str = "loss") -> Callable[[Arms], float]:
    """Effect: by what factor the end loss of an arm is below that of another."""
    return lambda arms: log_ratio(arms[than].final(curve), arms[arm].final(curve))


def number_ratio(number: str, larger: str, smaller: str) -> Callable[[Arms], float]:
    """Effect: by what factor a number is larger in an arm than in another."""

    def effect(arms: Arms) -> float:
        top, bottom = arms[larger].numbers[number], arms[smaller].numbers[number]
        top, bottom = (min(max(v, 1e-38), 1e38) if not math.isnan(v) else 1e38 for v in (top, bottom))
        return math.log10(top / bottom)

    return effect
