"""Updates too large or too small for the weights they change."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from steadygrad.detectors.base import Detector, at_least
from steadygrad.history import Array
from steadygrad.online import largest, median
from steadygrad.records import Symptom
from steadygrad.view import View
from steadygrad.wording import portion

OVERSIZED_RATIO = 0.1
#: Weights that move by less than this share of their norm over the whole run have not learned anything.
TOTAL_MOVE = 0.02


def settled(view: View) -> Array:
    """Median update ratio over the weight matrices, without the first steps."""
    ratio, steps = view.matrix_ratio, view.sample_steps
    ratio = ratio[steps > min(5, view.history.steps // 10)]
    finite: Array = ratio[np.isfinite(ratio)]
    return finite


def _oversized(view: View) -> Iterator[Symptom]:
    """Silent on the first steps, on zero-initialised weights (left out) and while the loss keeps falling."""
    ratio = settled(view)
    if len(ratio) < 2 or view.optimizer_type() == "LBFGS":  # its line search checks every step by itself
        return
    typical = float(np.median(ratio))
    shape = view.loss
    first = view.matrix_ratio[:6]
    hit = largest(first) if np.isfinite(first).any() else 0.0
    thrown = shape is not None and shape.worst > 3 * abs(shape.start) and shape.lowest >= 0
    if (
        shape is not None
        and ((hit > 0.5 and thrown) or (hit > 3 and view.longest_path >= 3))
        and typical <= OVERSIZED_RATIO
    ):
        message = f"the first steps changed the weights by up to {portion(hit)} their norm"
        message += f" and drove the loss from {shape.start:.3g} to {shape.worst:.3g}" if thrown else ""
        yield Symptom(
            "oversized-updates", "warning", _largest(view), 1, view.history.steps, {"update_ratio": hit}, message
        )
        return
    growth = weight_growth(view)
    poor = (
        shape is not None and shape.n >= 80 and shape.relative_drop < 0.4 and shape.lowest >= 0 and not view.interleaved
    )
    ballooned = growth > 12 and shape is not None and shape.relative_drop < 0.75 and not view.interleaved
    if typical > 0.02 and ((growth > 5 and poor) or ballooned):
        message = f"each step changes the weights by {portion(typical)} their norm, and they grew {growth:.3g}-fold"
        evidence = {"update_ratio": typical, "growth": growth}
        yield Symptom("oversized-updates", "warning", _largest(view), 1, view.history.steps, evidence, message)
        return
    falling = shape is not None and not shape.nonfinite and shape.relative_drop > 0.3 and not view.interleaved
    if typical > OVERSIZED_RATIO and not falling:
        message = f"each step changes the weights by {portion(typical)} their norm; about 0.1% is usual"
        evidence = {"update_ratio": typical}
        severity = "critical" if typical > 1 else "warning"
        yield Symptom("oversized-updates", severity, _largest(view), 1, view.history.steps, evidence, message)


def weight_growth(view: View) -> float:
    """Largest growth of a weight matrix's norm from the first to the last finite sample."""
    weights = view.parameter("weight_norm")[:, view.matrices] if view.samples and view.matrices else np.zeros((0, 0))
    growth = [c[-1] / c[0] for c in (col[np.isfinite(col)] for col in weights.T) if len(c) > 1 and c[0] > 0]
    return float(max(growth)) if growth else 1.0


def _largest(view: View) -> str:
    with np.errstate(all="ignore"):
        medians = np.array([median(c) if np.isfinite(c).any() else np.nan for c in view.update_ratio.T])
    rows = [r for r in view.matrices if np.isfinite(medians[r])]
    if not rows:
        return ""
    top = max(rows, key=lambda r: medians[r])
    others = [medians[r] for r in rows if r != top]
    return view.parameters[top].name if others and medians[top] > 5 * np.median(others) else ""


def total_move(view: View) -> float:
    """Upper bound on how far the weights moved in the whole run, relative to their norm."""
    ratio = view.matrix_ratio[np.isfinite(view.matrix_ratio)]
    return float(np.mean(ratio)) * view.history.steps if len(ratio) else float("nan")


def faded_rate(view: View) -> tuple[int, int] | None:
    """(step, last step) where the rate falls below 1% of its peak for more than half of the run."""
    if view.main is None:
        return None
    rates, steps = view.main.lr.values(), view.main.lr.steps()
    if len(rates) < 20 or not rates.max() > 0:
        return None
    low = rates < 0.01 * rates.max()
    if float(low.mean()) < 0.5 or not low[-1]:
        return None
    return int(steps[int(np.flatnonzero(~low)[-1])]) + 1, view.main.last_step


def _undersized(view: View) -> Iterator[Symptom]:
    """Silent at the end of a decay schedule (the whole run counts) and when the loss fell all the same."""
    moved, shape = total_move(view), view.loss
    faded = faded_rate(view)
    if shape is not None and faded is not None:
        at, steps = faded
        message = f"the learning rate fell below 1% of its largest value at step {at} of {steps}: nothing is learned from there on"
        yield Symptom(
            "undersized-updates", "warning", "", at, steps, {"from_step": float(at), "steps": float(steps)}, message
        )
        return
    if shape is None or not moved < TOTAL_MOVE or shape.relative_drop > 0.5 or view.signed_loss:
        return
    ratio = median(view.matrix_ratio)
    message = (
        f"each step changes the weights by {ratio:.1g} times their norm: {100 * moved:.2g}% at most over the whole run"
    )
    evidence = {"update_ratio": ratio, "total": moved}
    yield Symptom("undersized-updates", "warning", "", 1, view.history.steps, evidence, message)


OVERSIZED = Detector("oversized-updates", _oversized, at_least(10))
UNDERSIZED = Detector("undersized-updates", _undersized, at_least(50))
