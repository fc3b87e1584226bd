"""When a trial is not worth its time any more. A pure function of the curve so far: equal on every machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from steadygrad.trials.numbers import smoothed

#: So many losses in a row that are not finite end a trial. A loss scaler that looks for its scale needs fewer.
BROKEN = 12
#: A loss this many times its start is diverging, once a quarter of the steps is over.
RUNAWAY = 4.0
#: Even if the loss went on falling this many times faster than it did lately, ...
HOPE = 1.5
#: ... it would end above the best by this factor.
BEHIND = 1.35
#: Why a trial is stopped. One that diverged has lost what it had; of one that is behind the end is not known.
NOT_FINITE, DIVERGED, FAR_BEHIND = "not finite", "diverged", "far behind"
#: Why there is nothing to say of one that ran to its end.
UNTRAINED = "it took no training step"


@dataclass(frozen=True, slots=True)
class Rule:
    """What is known when a trial begins.

    Args:
        steps: how many steps it is to take.
        best: the loss at the end of the best trial so far; None where losses cannot be compared.
        usual: a loss that the script as it is reaches and comes back from: one that chases its own targets may rise.
    """

    steps: int
    best: float | None = None
    usual: float = 0.0


def hopeless(rule: Rule, losses: Sequence[float]) -> str:
    """Why the trial should be stopped, or "".

    >>> hopeless(Rule(400, best=0.1), [2.3] * 210)
    'far behind'
    >>> hopeless(Rule(400, best=0.1), [2.3 * 0.98**step for step in range(210)])
    ''
    """
    if len(losses) >= BROKEN and not any(map(math.isfinite, losses[-BROKEN:])):
        return NOT_FINITE
    done = len(losses)
    if 4 * done < rule.steps or done < 30:
        return ""
    now, start = smoothed(losses, done), smoothed(losses, 1, 1)
    if start > 0 and now > RUNAWAY * max(start, rule.usual):
        return DIVERGED
    if rule.best is None or 2 * done < rule.steps or min(losses) < 0 or rule.best <= 0:
        return ""
    return FAR_BEHIND if now > 0 and _expected(losses, now, rule.steps) > math.log(BEHIND * rule.best) else ""


def _expected(losses: Sequence[float], now: float, steps: int) -> float:
    """Logarithm of the loss at the end, if it kept falling a little faster than over the last half."""
    done = len(losses)
    before = smoothed(losses, done // 2)
    if not before > 0:
        return math.log(now)
    pace = min(0.0, math.log(now) - math.log(before)) / (done - done // 2)
    return math.log(now) + HOPE * pace * (steps - done)
