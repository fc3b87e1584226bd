"""Outcomes of trials in words, the same for terminal and report."""

from __future__ import annotations

import math

from steadygrad.records import TrialResult
from steadygrad.trials.judge import Standing
from steadygrad.trials.result import FixResult, left_out
from steadygrad.trials.stopping import UNTRAINED
from steadygrad.wording import count

_STATUS = {
    "finished": "finished", "stopped-early": "stopped early", "non-finite": "NaN", "crashed": "crashed",
    "not-applicable": "does not apply", "cut": "no time left",
}  # fmt: skip
HEADLINES = {
    "fixed": "a remedy was found that works on this script",
    "nothing-to-fix": "nothing wrong was found",
    "no-fix-found": "nothing that was tried beats the script as it is, beyond the noise",
}


def headline(result: FixResult) -> str:
    """The verdict in a sentence."""
    nothing_tried = all(left_out(r) for s in result.standings for r in s.results)
    if result.verdict == "no-fix-found" and nothing_tried:
        return "there was no time to try anything; --budget gives more"
    said = HEADLINES.get(result.verdict) or _unknown(result)
    return f"interrupted; so far {said}" if result.interrupted else said


def _unknown(result: FixResult) -> str:
    first = result.control[0] if result.control else None
    if first is not None and first.status == "crashed" and first.note != UNTRAINED:
        if result.diagnosis.verdict == "healthy":
            return f"nothing wrong was found before it ended with an error: {first.note}"
        return f"it ended with an error before there was anything to compare: {first.note}"
    if first is not None and first.status == "cut" and not first.steps:
        return "the time was up before its first step; --budget gives more"
    unseen = (check.why for check in result.diagnosis.checks_not_run if check.check == "observation")
    return next(unseen, "there was too little to judge by")


def gain(result: FixResult, standing: Standing) -> str:
    """An improvement over the control in a word: a ratio of losses, a share of the way to the best, findings less."""
    if standing.improvement is None:
        return ""
    if result.scale == "health":
        return f"{count(round(standing.improvement, 1), 'finding')} less"
    if result.control[0].loss is None:
        return "finite"
    if result.scale == "linear":
        return f"{standing.improvement:+.0%}"
    return ratio(standing.improvement) + (" of start" if _risen_from(result) is not None else "")


def outcome(result: FixResult, best: Standing) -> str:
    """What the recommended remedy achieves, as the rest of a sentence that begins with the number of steps."""
    loss, control = best.first.loss, result.control[0].loss
    if result.scale == "health" or loss is None or best.improvement is None:
        return f"there are {gain(result, best)}" if best.improvement else "nothing is found any more"
    if control is None:
        return f"the loss is {loss:.4g}, where the script as it is ends in NaN"
    low, high = best.interval or (best.improvement, best.improvement)
    if result.scale == "linear":
        span = f" ({low:+.0%} to {high:+.0%})" if best.interval else ""
        return f"the loss is {loss:.4g} in place of {control:.4g}: {best.improvement:+.0%} of the way{span}"
    span = f" ({ratio(high)} to {ratio(low)})" if best.interval else ""
    start = _risen_from(result)
    if start is not None:
        began = f"{ratio(best.improvement)} of the {start:.4g} that it began with{span}"
        return f"the loss is {loss:.4g}, {began}; the script as it is rises to {control:.4g}"
    return f"the loss is {loss:.4g} in place of {control:.4g}: {ratio(best.improvement)}{span}"


def _risen_from(result: FixResult) -> float | None:
    """The first loss, where the script as it is ends above it: it then counts as having stayed there."""
    control = result.control[0]
    start = control.curve[0][1] if control.curve else math.nan
    return start if control.loss is not None and control.loss > start else None


def ratio(improvement: float) -> str:
    """A difference of logarithms as a factor of the loss.

    >>> ratio(2.302585), ratio(0.0), ratio(-0.1)
    ('0.1×', '1×', '1.1×')
    """
    return f"{math.exp(-min(700.0, max(-700.0, improvement))):.2g}×"


def state(result: TrialResult) -> tuple[str, str]:
    """What became of a trial, and whether that is "good", "fair", "bad" or "nothing"."""
    if result.status == "finished":
        if result.verdict == "healthy":
            return "healthy", "good"
        return ", ".join(result.symptoms) or result.verdict or "finished", "fair"
    note = f": {result.note}" if result.note and result.status not in ("non-finite", "cut") else ""
    kind = "bad" if result.status in ("non-finite", "crashed") else "nothing"
    return _STATUS.get(result.status, result.status) + note, kind


def loss_of(result: TrialResult) -> str:
    """The loss at the end, and at which step where that was before the others'."""
    if result.loss is None:
        return "NaN" if result.status in ("finished", "non-finite") else "–"
    return f"{result.loss:.4g}" + (f" at {result.steps}" if result.status != "finished" and result.steps else "")


def cost(result: FixResult) -> str:
    """What the search took."""
    times = f", {result.seconds / result.plain_seconds:.1f} times the script itself" if result.plain_seconds else ""
    return f"{count(result.trials, 'trial')}, {count(result.seeds, 'seed')}, {result.seconds:.0f} s{times}"


def patch_state(result: FixResult) -> str:
    """How far the change of the script can be trusted."""
    if result.patch.verified is None:
        return "not run"
    ends = [
        "without a finite loss" if loss is None else f"at {loss:.4g}"
        for loss in (result.patch.loss, result.recommended.first.loss if result.recommended is not None else None)
    ]
    said = "verified" if result.patch.verified else "NOT verified"
    return f"{said}: the changed script ends {ends[0]}, the trial {ends[1]}"
