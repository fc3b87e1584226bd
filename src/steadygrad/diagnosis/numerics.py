"""Operations and number formats that break."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from steadygrad.detectors.nonfinite import ORDINARY_SKIPS, place
from steadygrad.diagnosis.base import Argument, CauseRule, Findings
from steadygrad.online import median
from steadygrad.records import NotRun, ParameterInfo
from steadygrad.view import View

#: A gradient below this may have entries that float16 takes for zero.
FAINT = 1e-4
HALF = ("float16", "bfloat16")
#: Relative distance between neighbouring numbers; an update below half of it is lost.
SPACING = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
#: Operations with a place where result or slope is not finite.
POLES = {
    "log": "log of 0", "log2": "log of 0", "log10": "log of 0", "log1p": "log1p of -1", "sqrt": "square root at 0",
    "rsqrt": "1/sqrt at 0", "div": "division by 0", "reciprocal": "division by 0", "pow": "a power at 0",
    "acos": "arccos at 1", "asin": "arcsin at 1", "atanh": "artanh at 1", "norm": "slope of a norm at 0",
    "linalg_vector_norm": "slope of a norm at 0", "cdist": "slope of a distance at 0", "std": "slope of a deviation at 0",
    "var": "a variance of one value", "exp": "overflow of exp", "expm1": "overflow of exp", "sinh": "overflow of sinh",
    "cosh": "overflow of cosh", "_softmax": "softmax over a row of -inf",
    "_log_softmax": "softmax over a row of -inf", "logit": "logit at 0 or 1", "tan": "tan at a pole",
}  # fmt: skip


def origins(view: View) -> list[dict[str, Any]]:
    """Traced origins of non-finite values."""
    return [dict(f.data) for f in view.history.facts("origin") if f.data.get("found")]


def untraced(view: View) -> list[NotRun]:
    """Where the first non-finite value came from, if that was looked for in vain: what stood in the way."""
    facts = view.history.facts("origin")
    if not facts or origins(view) or view.history.facts("bad-batch"):
        return []
    why = facts[0].data.get("why", "the replay named no operation")
    return [NotRun("unstable-operation", f"where the first NaN or Inf came from is not known: {why}")]


def _operation(op: str) -> str | None:
    name = op.rstrip("_")
    for suffix in ("_backward", "_backward_data"):
        name = name.removesuffix(suffix)
    return next((pole for pole in POLES if name == pole or name.startswith(pole + "_")), None)


#: Operations that break where an input is exactly 0.
BREAK_AT_ZERO = ("log", "sqrt", "div", "rsqrt", "reciprocal", "norm", "linalg_vector_norm", "pow")


def _unstable(findings: Findings, argument: Argument) -> None:
    view = findings.view
    origin = next(iter(origins(view)), None)
    if origin is None:
        return
    argument.location = place(origin)
    op = _operation(origin["op"])
    inputs, where = origin.get("inputs", []), origin.get("code") or argument.location
    if op is not None:
        argument.add(0.85, f"{POLES[op]} in `{where}` gave the first {origin['result']}")
    else:
        argument.add(0.4, f"the operation {origin['op']} in `{where}` gave the first {origin['result']}")
    calm, half = calm_before(view), origin.get("dtype") == "float16"
    if calm and not half:
        argument.add(0.5, "loss and gradients were of their usual size until then")
    if op in BREAK_AT_ZERO and any(v.get("absmin", 1.0) == 0.0 for v in inputs):
        argument.add(0.5, "one of its inputs is exactly 0")
    if origin.get("backward"):
        argument.add(0.3, "the loss itself is finite: only the slope of this operation is not")
    largest = max((abs(v.get("max", 0.0)) for v in inputs), default=0.0)
    if largest > 1e6 and op != "exp" and not calm:
        argument.doubt(0.75, f"its inputs had already grown to {largest:.2g}")
    if half:
        argument.doubt(0.6, "the value does not fit float16, which ends at 65504")
    if _spoiled_before(view):
        argument.doubt(0.5, "gradients had grown out of all proportion before")


def calm_before(view: View) -> bool:
    """Nothing was growing in the last finite steps: the values broke within a single forward or backward pass."""
    stream = view.main
    if stream is None or stream.steps < 3:
        return False
    norms, losses = stream.grad_norm.values(), stream.loss.values()
    if len(norms) < 2 or len(losses) < 2:
        return False
    return bool(norms[-3:].max() <= 5 * np.median(norms) and losses[-3:].max() <= 2 * abs(float(losses[0])))


def _spoiled_before(view: View) -> bool:
    stream = view.main
    if stream is None:
        return False
    values = stream.grad_norm.values()
    return len(values) > 3 and bool(
        values.max() > 1e4 * max(float(np.median(values[: max(1, len(values) // 4)])), 1e-12)
    )


def _precision(findings: Findings, argument: Argument) -> None:
    view, stream = findings.view, findings.view.main
    half = [p for p in view.parameters if p.dtype in HALF and p.trainable]
    _overflowed(view, argument)
    if half:
        argument.location = argument.location or half[0].name
    if half and stream is not None:
        _rounded_away(view, argument, half)
        if half[0].dtype == "float16" and findings.trouble:
            argument.add(0.4, "the parameters are float16")
    computed = [str(f.data["dtype"]) for f in view.history.facts("half-precision")]
    if "float16" in [*computed, *(p.dtype for p in half)]:  # bfloat16 has the exponents of float32: no underflow
        lost, peak = _zero_share(view)
        if lost > 0.5 and peak < 1e-4:
            argument.add(
                0.8,
                f"{lost:.0%} of the gradient entries are exactly 0 and the largest is {peak:.1g}: they underflow float16, and no GradScaler lifts them",
            )
        elif findings.trouble and not argument.weights:
            argument.add(0.25, "part of the computation runs in float16")
    _lost_on_the_way(view, argument)
    line = view.set_at("backward", "half").partition(" (")[0]
    if line and line != view.source("backward") and ":" not in argument.location:
        argument.location = f"{argument.location} ({line})" if argument.location else line
    if stream is not None and len(stream.amp_skips) > ORDINARY_SKIPS:
        argument.add(0.8, f"the GradScaler skipped {len(stream.amp_skips)} steps: gradients overflow float16")


def _overflowed(view: View, argument: Argument) -> None:
    """The first value that was not finite came of float16."""
    for origin in origins(view)[:1]:
        inputs = origin.get("inputs", [])
        if "float16" in (origin.get("dtype"), *(v.get("dtype") for v in inputs)):
            argument.location = place(origin)
            peak = max((abs(v.get("max", 0.0)) for v in inputs), default=0.0)
            argument.add(0.85, f"{origin['op']} overflowed float16 (largest value 65504; its inputs reach {peak:.3g})")


def _rounded_away(view: View, argument: Argument, half: list[ParameterInfo]) -> None:
    """Updates smaller than the distance between two numbers of the format change nothing."""
    rows, dtype = [p.index for p in half], half[0].dtype
    frozen = _lost_updates(view, rows)
    if frozen > 0.3:
        argument.add(
            0.9,
            f"{frozen:.0%} of the {dtype} parameters with a gradient do not change: updates are lost to rounding",
        )
    below = _below_spacing(view, rows)
    if below < 1.5:
        argument.add(
            0.75,
            f"a typical update is {below:.2g} times the spacing of {dtype} numbers at the weights' size: most of it is rounded away",
        )


def _lost_on_the_way(view: View, argument: Argument) -> None:
    """A layer has a faint gradient behind it and, in every sample, one of exactly zero before it.

    Its weights are not zero, no unit is off, and its own gradient exists: nothing but a narrow number format does that.
    """
    signal, weights = view.site("signal"), view.parameter("weight_norm")
    if not len(signal) or any(s.activation == "relu" for s in view.sites):
        return
    measured = [s for s in view.sites if np.isfinite(signal[:, s.index]).any()]
    for before, after in itertools.pairwise(measured):
        faint = median(signal[:, after.index])
        silent = not np.nan_to_num(signal[:, before.index]).any()
        rows = [p.index for p in view.parameters if p.name.rpartition(".")[0] == after.name]
        if silent and after.params and 0 < faint < FAINT and rows and float(np.nanmin(weights[:, rows])) > 0:
            argument.location = argument.location or after.name
            argument.add(
                0.8,
                f"a gradient of norm {faint:.1g} reaches {after.name} and exactly 0 leaves it: float32 would keep it, float16 does not",
            )
            return


def _zero_share(view: View) -> tuple[float, float]:
    """(typical share of exact zeros, typical largest entry) over the gradients of the weight matrices."""
    zeros, peaks = view.parameter("grad_zeros"), view.parameter("grad_max")
    rows = [r for r in view.matrices if len(zeros) and np.isfinite(zeros[:, r] + peaks[:, r]).any()]
    share, peak = ([median(m[:, r]) for r in rows] for m in (zeros, peaks))
    return (median(np.array(share)), median(np.array(peak))) if rows else (0.0, math.inf)


def _below_spacing(view: View, rows: list[int]) -> float:
    """Typical update as asked for by the rate, over the spacing of the number format at the weights' size."""
    stream, weights = view.main, view.parameter("weight_norm")
    if stream is None or not rows or not len(weights):
        return math.nan
    rate = float(np.max(stream.lr.values())) if len(stream.lr.values()) else math.nan
    asked = []
    for row in rows:
        info = view.parameters[row]
        size = math.prod(info.shape)
        if not np.isfinite(weights[:, row]).any() or not np.isfinite(view.parameter("grad_std")[:, row]).any():
            continue
        rms = median(weights[:, row]) / math.sqrt(max(1, size))
        step = rate if view.adaptive else rate * median(view.parameter("grad_std")[:, row])
        if rms > 0 and info.role == "weight":
            asked.append(step / rms / SPACING[info.dtype])
    return float(np.median(asked)) if asked else math.nan


def _lost_updates(view: View, rows: list[int]) -> float:
    """Share of half-precision parameters whose gradient is not zero but whose values hardly ever change."""
    updates, gradients = view.parameter("update_norm"), view.parameter("grad_max")
    lost = 0
    for row in rows:
        active = gradients[:, row] > 0
        lost += bool(active.any()) and float(np.mean(updates[active, row] == 0)) > 0.5
    return lost / max(1, len(rows))


UNSTABLE = CauseRule(
    "unstable-operation", _unstable, ("guard-operation", "skip-bad-step", "clip-norm", "swap-activation")
)
PRECISION = CauseRule(
    "precision-range",
    _precision,
    ("full-precision", "clip-norm", "lower-lr"),
    explains=("unstable-operation", "learning-rate-too-high", "learning-rate-too-low", "dying-relu"),
)
