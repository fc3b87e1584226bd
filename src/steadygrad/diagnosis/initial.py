"""Weights that start too large or too small for their layer."""

from __future__ import annotations

import math

import numpy as np

from steadygrad.detectors.activations import saturated_layers, scale_decades
from steadygrad.detectors.gradients import depth_flow
from steadygrad.diagnosis.base import Argument, CauseRule, Findings, ramp
from steadygrad.view import View

#: Gains (weight RMS * sqrt(fan_in)) in use: torch's default 0.58, Xavier about 1, Kaiming 1.41, tanh 1.67.
LARGEST_USUAL = 1.8
SMALLEST_USUAL = 0.3


def expected_loss(view: View) -> tuple[float, float] | None:
    """(first loss, loss of an uninformed predictor) for a mean-reduced classification loss, where one was seen."""
    for call in view.loss_calls:
        if call.get("reduction") != "mean" or "value" not in call:
            continue
        if call["name"] in ("cross_entropy", "nll_loss") and call.get("classes", 0) > 1 and call.get("target_shape"):
            return call["value"], math.log(call["classes"])
        if call["name"] == "binary_cross_entropy_with_logits":
            return call["value"], math.log(2)
    return None


def _drawn(view: View, row: int) -> str:
    """A weight by its name, with the line that draws it where it belongs to no module."""
    info = view.parameters[row]
    line = view.set_at("backward", "weights").partition(" (")[0] if not info.module_type else ""
    return f"{info.name} ({line})" if line and line != view.source("backward") else info.name


def _too_large(findings: Findings, argument: Argument) -> None:
    view = findings.view
    gains = {row: g for row, g in view.init_gain.items() if math.isfinite(g)}
    large = {row: g for row, g in gains.items() if g > LARGEST_USUAL}
    if not large:
        return
    top = max(large, key=lambda r: large[r])
    name, gain = view.parameters[top].name, large[top]
    others = [g for r, g in gains.items() if r != top]
    alone = len(large) == 1 or (bool(others) and gain > 4 * float(np.median(others)))
    argument.location = _drawn(view, top if alone else min(large))
    expected = expected_loss(view)
    far_off = expected is not None and expected[0] > 1.5 * expected[1] + 0.3
    weight = 0.85 * ramp(gain, LARGEST_USUAL, 8) * _harm(findings, float(np.median(list(gains.values()))), far_off)
    size = "one layer starts" if len(large) == 1 else f"{len(large)} of {len(gains)} weight matrices start"
    kaiming, most = gain / math.sqrt(2), " most" if len(large) > 1 else ""
    argument.add(weight, f"{size} {kaiming:.1f}x larger than Kaiming's value would be ({name}{most})")
    if expected is not None and far_off:
        excess = max(0.6 * ramp(gain, LARGEST_USUAL, 4), 0.75 * ramp(expected[0] / expected[1], 1.5, 10))
        argument.add(excess, f"the first loss is {expected[0]:.3g}; an uninformed guess would give {expected[1]:.3g}")
    decades, _, _ = scale_decades(view)
    if decades > 2:
        argument.add(0.5, f"before any update the activation scale grows by 1e{decades:.0f} over depth")
    if any(before > 0.4 for _, before, _ in saturated_layers(view)):
        argument.add(0.4, "units are saturated before any update")
    if view.has_norm and gain < 20 and not far_off:
        argument.doubt(0.3, "normalisation layers absorb the scale of the weights before them")


def _harm(findings: Findings, typical: float, far_off: bool) -> float:
    """How much large weights count by what came of them: little where the run does well, or nothing was found wrong."""
    if far_off:
        return 1.0
    if not findings.trouble:
        return 0.8 if typical > 5 and not findings.view.has_norm else 0.4
    unharmed = findings.learning and not findings.has("exploding-gradients", "non-finite")
    return 0.7 if unharmed else 1.0


def _left_zero(view: View, row: int) -> bool:
    """Whether a matrix that started at zero was moved: one among others may, and learns from the first step on."""
    norms = view.parameter("weight_norm")[:, row] if len(view.samples) else np.zeros(0)
    return bool(np.nan_to_num(norms).max(initial=0.0) > 0)


def _too_small(findings: Findings, argument: Argument) -> None:
    view = findings.view
    gains = {row: g for row, g in view.init_gain.items() if row in set(view.matrices)}
    small = {row: g for row, g in gains.items() if g < SMALLEST_USUAL and (g > 0 or not _left_zero(view, row))}
    if not small or not findings.trouble:
        return
    worst = min(small, key=lambda r: small[r])
    share, gain = len(small) / len(gains), small[worst]
    argument.location = _drawn(view, worst if share < 0.5 else min(small))
    typical = float(np.median(list(small.values()))) if share >= 0.5 else gain
    weight = 0.8 * ramp(SMALLEST_USUAL / max(typical, 1e-30), 1.5, 15)
    argument.add(
        weight * (1.0 if share > 0.3 or gain < 0.02 else 0.6),
        f"{len(small)} of {len(gains)} weight matrices start {math.sqrt(2) / max(gain, 1e-30):.3g}x smaller than Kaiming's value",
    )
    _shrinks(view, argument, gains)
    if findings.learning:
        argument.doubt(0.7, "the loss falls all the same")
    if view.depth < view.longest_path / 3:
        argument.doubt(0.3, "shortcuts carry the signal past the small layers")


def _shrinks(view: View, argument: Argument, gains: dict[int, float]) -> None:
    """What such weights do over depth before any update: measured, or else by their product."""
    decades, _, measured = scale_decades(view)
    product = float(np.sum(np.log10(np.maximum(list(gains.values()), 1e-30))))
    if not measured and product < -3 and view.depth >= 3:
        argument.add(0.5, f"over {view.depth} layers such weights shrink the signal by 1e{-product:.0f}")
    if decades < -1.5:
        argument.add(0.5, f"before any update the activation scale shrinks by 1e{-decades:.0f} over depth")
    flow = depth_flow(view, 0) if view.samples else None
    if flow is not None and flow.decades < -2:
        back = f"back to {flow.sites[0].name}"
        argument.add(0.4, f"before any update the gradient shrinks by 1e{-flow.decades:.0f} {back}")


TOO_LARGE = CauseRule(
    "init-too-large",
    _too_large,
    ("reinit-kaiming", "reinit-xavier", "reinit-orthogonal", "add-normalization"),
    explains=(
        "learning-rate-too-high", "saturating-activation", "missing-warmup", "long-recurrence", "dying-relu",
        "depth-without-shortcut", "unstable-operation", "precision-range", "corrupt-batch", "learning-rate-too-low",
    ),
)  # fmt: skip
TOO_SMALL = CauseRule(
    "init-too-small",
    _too_small,
    ("reinit-kaiming", "reinit-xavier", "reinit-lsuv"),
    explains=(
        "depth-without-shortcut",
        "learning-rate-too-low",
        "saturating-activation",
        "long-recurrence",
        "dying-relu",
    ),
)
