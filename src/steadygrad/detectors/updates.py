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


#: A finding before it has its place: the message, and the evidence for it.
Said = tuple[str, dict[str, float]]


def _oversized(view: View) -> Iterator[Symptom]:
    """Silent on the first steps, on zero-initialised weights (left out) and while the loss keeps falling."""
    ratio = settled(view)
    if len(ratio) < 2 or view.optimizer_type() == "LBFGS":  # its line search checks every step by itself
        return
    typical = float(np.median(ratio))
    said = _thrown_at_first(view, typical) or _ballooned(view, typical)
    severity = "warning"
    if said is None:
        said, severity = _large_throughout(view, typical), "critical" if typical > 1 else "warning"
    if said is not None:
        message, evidence = said
        yield Symptom("oversized-updates", severity, _largest(view), 1, view.history.steps, evidence, message)


def _thrown_at_first(view: View, typical: float) -> Said | None:
    """The first steps were huge, and those after them are not."""
    shape, first = view.loss, view.matrix_ratio[:6]
    hit = largest(first) if np.isfinite(first).any() else 0.0
    if shape is None or typical > OVERSIZED_RATIO:
        return None
    thrown = shape.worst > 3 * abs(shape.start) and shape.lowest >= 0
    if not ((hit > 0.5 and thrown) or (hit > 3 and view.longest_path >= 3)):
        return None
    message = f"the first steps changed the weights by up to {portion(hit)} their norm"
    message += f" and drove the loss from {shape.start:.3g} to {shape.worst:.3g}" if thrown else ""
    return message, {"update_ratio": hit}


def _ballooned(view: View, typical: float) -> Said | None:
    """The weights grew manyfold, for little."""
    shape, growth = view.loss, weight_growth(view)
    if shape is None or view.interleaved or not typical > 0.02:
        return None
    poor = shape.n >= 80 and shape.relative_drop < 0.4 and shape.lowest >= 0
    if not ((growth > 5 and poor) or (growth > 12 and shape.relative_drop < 0.75)):
        return None
    message = f"each step changes the weights by {portion(typical)} their norm, and they grew {growth:.3g}-fold"
    return message, {"update_ratio": typical, "growth": growth}


def _large_throughout(view: View, typical: float) -> Said | None:
    """Every step is large, and the loss does not fall."""
    shape = view.loss
    falling = shape is not None and not shape.nonfinite and shape.relative_drop > 0.3 and not view.interleaved
    if falling or not typical > OVERSIZED_RATIO:
        return None
    message = f"each step changes the weights by {portion(typical)} their norm; about 0.1% is usual"
    return message, {"update_ratio": typical}


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
