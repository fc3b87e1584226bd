"""From effects to a verdict: holds, does not hold, or holds only when."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from steadygrad.errors import InputError
from steadygrad.lab.experiment import Condition, Experiment, Runs

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """Mean of an effect over seeds with its 95% t interval; the interval is endless for one seed."""

    mean: float
    low: float
    high: float
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """A condition with its estimate: whether the claim holds under it (None: the interval leaves it open)."""

    condition: Condition
    estimate: Estimate

    @property
    def holds(self) -> bool | None:
        """True above the threshold, False below it, None where the interval contains it."""
        if self.estimate.low > self.condition.above:
            return True
        return False if self.estimate.high <= self.condition.above else None

    @property
    def text(self) -> str:
        """``×12 [×8, ×18]``."""
        show, estimate = self.condition.show, self.estimate
        return f"{show(estimate.mean)} [{show(estimate.low)}, {show(estimate.high)}]"


@dataclass(frozen=True, slots=True)
class Verdict:
    """``word`` is holds, does not hold, or holds only when; ``text`` the whole sentence."""

    word: str
    text: str
    findings: tuple[Finding, ...]


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and t interval (Student 1908); values that are all equal have an interval of no width.

    Raises:
        InputError: no values, or NaN among them.

    Example:
        >>> e = estimate([1.0, 2.0, 3.0])
        >>> round(e.mean, 3), round(e.low, 3), round(e.high, 3)
        (2.0, -0.484, 4.484)
    """
    if not values or any(math.isnan(v) for v in values):
        raise InputError(f"an effect must be a number for every seed; received {list(values)}")
    count, mean = len(values), sum(values) / len(values)
    if count == 1:
        return Estimate(mean, -math.inf, math.inf, tuple(values))
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (count - 1))
    half = _quantile(count - 1) * spread / math.sqrt(count)
    return Estimate(mean, mean - half, mean + half, tuple(values))


def _quantile(degrees: int) -> float:
    try:
        from scipy import stats
    except ModuleNotFoundError as error:
        raise InputError("the lab needs scipy and scikit-learn: pip install 'steadygrad[lab]'") from error
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, degrees))


def judge(experiment: Experiment, runs: Runs) -> Verdict:
    """The verdict over all seeds.

    A claim holds if it holds under every condition, and does not hold if it holds under none; otherwise it holds only
    under those for which it was shown.
    """
    arms = list(runs.values())
    findings = tuple(Finding(c, estimate([c.effect(a) for a in arms])) for c in experiment.conditions)
    yes = [f.condition.name for f in findings if f.holds]
    if len(yes) == len(findings):
        return Verdict("holds", "holds", findings)
    if not yes:
        opened = all(f.holds is None for f in findings)
        return Verdict("does not hold", "does not hold" + (" (not shown by these seeds)" if opened else ""), findings)
    others = [f.condition.name for f in findings if not f.holds]
    text = f"holds only when {'; or '.join(yes)}. Not when {'; or '.join(others)}"
    return Verdict("holds only when", text, findings)
