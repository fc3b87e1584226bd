"""What the architecture does to the gradient: saturation, depth, recurrence, dead units."""

from __future__ import annotations

import math

import numpy as np

from steadygrad.detectors.activations import SQUASHING, dead_layers, saturated_layers
from steadygrad.detectors.gradients import depth_flow, time_decades
from steadygrad.detectors.losses import has_stalled
from steadygrad.detectors.updates import faded_rate, settled, weight_growth
from steadygrad.diagnosis.base import Argument, CauseRule, Findings, ramp
from steadygrad.diagnosis.data import inputs_saturate
from steadygrad.online import largest, median
from steadygrad.view import View

DEEP_FROM = 10


def squashing_depth(view: View, *kinds: str) -> int:
    """How many hidden sigmoid (or tanh) activations lie in the forward path, functional ones included."""
    last = max((s.index for s in view.weighted_sites), default=-1)
    calls = view.site("calls")
    count = 0
    for site in view.sites:
        if site.kind == "activation" and site.activation in kinds and site.index < last:
            seen = calls[:, site.index] if len(calls) else np.zeros(0)
            count += int(median(seen)) if np.isfinite(seen).any() and not view.reused else 1
    return count


def _decades(view: View) -> float:
    flow = depth_flow(view, 0) if view.samples else None
    return flow.decades if flow is not None else 0.0


def _saturating(findings: Findings, argument: Argument) -> None:
    view = findings.view
    sigmoids, tanhs = squashing_depth(view, "sigmoid"), squashing_depth(view, "tanh")
    if sigmoids + tanhs < 2 or not findings.has(
        "vanishing-gradients", "saturated-units", "stalled-loss", "undersized-updates"
    ):
        return
    first = next(s for s in view.sites if s.kind == "activation" and s.activation in SQUASHING)
    argument.location = view.place(first.index)
    decades, layers = _decades(view), max(1, sigmoids + tanhs)
    if sigmoids >= 3 and decades < -1.5:
        argument.add(
            0.85,
            f"{sigmoids} sigmoid layers in a row each pass on at most a quarter of the gradient: 1e{decades:.0f} over depth",
        )
    saturated = [row for row in saturated_layers(view) if view.sites[row[0]].activation in SQUASHING]
    if saturated:
        share = float(np.median([late for _, _, late in saturated]))
        argument.location = view.place(saturated[0][0])
        argument.add(
            0.35 + 0.4 * len(saturated) / layers,
            f"{share:.0%} of the inputs of {len(saturated)} sigmoid/tanh layers lie in the flat tails",
        )
    if tanhs >= 3 and not saturated and decades < -2:
        argument.add(0.4, f"{tanhs} tanh layers shrink the gradient by 1e{-decades:.0f} over depth")
    if view.has_norm:
        argument.doubt(0.4, "normalisation layers keep inputs out of the flat tails")
    if inputs_saturate(view):
        argument.doubt(0.5, "what saturates is the first of them, by the size of the inputs")
    if not findings.has("vanishing-gradients") and not saturated and decades > -2:
        argument.doubt(0.5, "the gradient reaches the first layers")


#: What a stack too deep for its gradient may do to a run.
DEPTH_SYMPTOMS = (
    "vanishing-gradients", "exploding-gradients", "activation-drift", "stalled-loss", "diverging-loss", "non-finite",
    "undersized-updates",
)  # fmt: skip


def _deep(findings: Findings, argument: Argument) -> None:
    view = findings.view
    depth = view.depth
    stuck_deep = findings.poor and depth >= 20
    if depth < DEEP_FROM or not (stuck_deep or findings.has(*DEPTH_SYMPTOMS)):
        return
    flows = [f for f in (depth_flow(view, i) for i in range(len(view.samples))) if f is not None]
    first = depth_flow(view, 0)
    argument.location = first.sites[0].name if first is not None else ""
    decades = max((f.decades for f in flows), key=abs, default=0.0)
    argument.add(
        0.35 + 0.35 * ramp(depth, DEEP_FROM, 30), f"{depth} weight layers in a row, and no shortcut past any of them"
    )
    if abs(decades) > 2:
        direction = "shrinks" if decades < 0 else "grows"
        argument.add(0.5, f"the gradient {direction} by 1e{abs(decades):.0f} over depth")
    else:
        argument.doubt(0.5 if depth < 25 else 0.2, f"the gradient changes by only 1e{abs(decades):.1f} over depth")
    if stuck_deep and view.loss is not None:
        argument.add(0.3, f"the loss fell by {max(0.0, view.loss.relative_drop):.0%} only, in {view.loss.n} steps")
    if view.has_norm:
        argument.doubt(0.5, "normalisation layers reset the scale")
    if squashing_depth(view, "sigmoid") >= 3:
        argument.doubt(0.5, "its sigmoid layers shrink the gradient by themselves")


def _recurrence(findings: Findings, argument: Argument) -> None:
    view = findings.view
    decades, site, length = time_decades(view)
    recurrent = site or view.reused or view.repeated or any(s.kind == "recurrent" for s in view.sites)
    if not recurrent or not (findings.trouble or findings.poor):
        return
    argument.location = _recurrent_weight(view, site)
    _elastic(findings, argument)
    _through_time(findings, argument, decades, length)
    uses = max([length, *view.reused.values()])
    dominant = _dominates(view, argument.location)
    if findings.has("exploding-gradients", "non-finite", "diverging-loss", "oversized-updates") and dominant > 0.5:
        argument.add(0.4, f"{argument.location} holds {dominant:.0%} of the squared gradient norm")
    if uses >= 30:
        argument.add(0.3, f"the same weights are multiplied {uses} times")
    gain = view.init_gain.get(next((p.index for p in view.parameters if p.name == argument.location), -1), 0.0)
    if decades > 0 and 0 < gain <= 1.8:
        argument.add(0.1, "the recurrent weights start at a usual scale")
    if findings.learning and not findings.has("non-finite", "exploding-gradients"):
        argument.doubt(0.6, "the loss falls all the same")
    faded = faded_rate(view)
    if faded is not None and decades <= 0:
        argument.doubt(0.6, f"from step {faded[0]} on the rate was next to nothing: no recurrence could have learned")


def _through_time(findings: Findings, argument: Argument, decades: float, length: int) -> None:
    """How the gradient grows or shrinks on its way back through ``length`` time steps."""
    view = findings.view
    stuck = findings.poor or (view.loss is not None and (has_stalled(view.loss) or findings.has("stalled-loss")))
    local = max((f.data.get("active", 0.0) for f in view.history.facts("time-flow")), default=0.0)
    if local > 0.5 and decades < 0 and not findings.has("exploding-gradients", "non-finite", "diverging-loss"):
        argument.doubt(0.5, "the loss reads most time steps, so each has a short way back")
    if length >= 8 and decades < -3 and stuck:
        argument.add(
            0.85 * ramp(10**-decades, 1e3, 1e6),
            f"the gradient shrinks by 1e{-decades:.0f} over {length} time steps and the loss hardly moves",
        )
    if length >= 8 and decades > 1.5:
        argument.add(
            0.85 * ramp(10**decades, 30, 1e4), f"the gradient grows by 1e{decades:.0f} over {length} time steps"
        )


def _elastic(findings: Findings, argument: Argument) -> None:
    """How much the first loss depends on a weight that one forward uses many times.

    ``|w| |dL/dw| / L`` is the relative change of the loss by that of the weight, free of all units: about 1 for a layer,
    about the number of uses for a product of equal factors. A first loss next to zero makes it large for every weight:
    then it says nothing about this one.
    """
    view = findings.view
    worst, uses, row = max(
        ((view.elasticity.get(r, 0.0), u, r) for r, u in view.repeated.items()), default=(0.0, 0, -1)
    )
    others = [e for r, e in view.elasticity.items() if r not in view.repeated and len(view.parameters[r].shape) >= 2]
    if worst > 30 and worst > 3 * max(others, default=0.0) and not _starts_at_nothing(findings):
        argument.location = view.parameters[row].name
        argument.add(
            0.85 * ramp(worst, 30, 300),
            f"before any update a change of 1% in {argument.location}, used {uses} times by one forward, could change the loss by {worst:.0f}%",
        )


def _starts_at_nothing(findings: Findings) -> bool:
    """Whether the first loss is far below the usual one of the run, which did not run away, or below a mere guess's."""
    view, shape = findings.view, findings.view.loss
    if shape is None:
        return True
    ran_away = findings.has("diverging-loss", "exploding-gradients", "non-finite")
    levels = [view.uninformed, math.nan if ran_away else shape.early]
    return any(shape.start < 0.01 * level for level in levels)


def _recurrent_weight(view: View, site: str) -> str:
    rows = [p for p in view.parameters if p.role == "recurrent"]
    inside = [p for p in rows if p.module == site]
    if inside or rows:
        return (inside or rows)[0].name
    if view.reused:
        row = max(
            view.reused, key=lambda r: (view.reused[r], view.parameters[r].shape == view.parameters[r].shape[::-1])
        )
        return view.parameters[row].name
    return site


def _dominates(view: View, name: str) -> float:
    if view.main is None:
        return 0.0
    squares = np.where(np.isfinite(view.main.peak_norms), np.maximum(view.main.peak_norms, 0), 0.0) ** 2
    row = next((p.index for p in view.parameters if p.name == name), None)
    if row is None or row >= len(squares) or squares.sum() <= 0:
        return 0.0
    return float(squares[row] / squares.sum())


def _dying(findings: Findings, argument: Argument) -> None:
    view = findings.view
    layers = dead_layers(view)
    if not layers:
        return
    index, before, share = max(layers, key=lambda row: row[2])
    argument.location = view.place(index)
    argument.add(0.3 + 0.5 * share, f"{share:.0%} of the units of {view.label(index)} are zero for every sample")
    if share - before > 0.3:
        argument.add(0.3, f"they were alive at the start ({before:.0%} dead) and died during training")
    elif before > 0.5:
        biased = [p for p in view.parameters if p.role == "bias" and p.init_rms > 1 and math.isfinite(p.init_rms)]
        if biased:
            fed = [p for p in biased if p.module in _feeding(view, index)]
            worst = (fed or biased)[0]
            argument.location += f" ({worst.name})" if fed and worst.module != argument.location else ""
            argument.add(0.6, f"the biases of {worst.module or worst.name} start at about {worst.init_rms:.2g}")
        else:
            argument.doubt(0.7, "they were off before the first update, without a bias that would explain it")
    if findings.learning:
        argument.doubt(0.4, "the loss falls all the same")
    if share - before > 0.3 and len(view.matrix_ratio) and largest(view.matrix_ratio) < 1e-2:
        argument.doubt(0.6, "no step was large enough to push them there: hardly any signal arrives")
    ratio = settled(view)
    early = largest(view.matrix_ratio[: max(3, len(ratio) // 3)]) if len(ratio) else 0.0
    if (early > 0.2 and before < 0.3) or (share - before > 0.3 and early > 0.1 and weight_growth(view) > 5):
        argument.doubt(0.3, "large updates came first: the rate may be the cause behind")


def _feeding(view: View, site: int) -> tuple[str, ...]:
    """The module that computes what an activation is given (the last with weights before it)."""
    return tuple(s.name for s in view.weighted_sites if s.index < site)[-1:]


SATURATING = CauseRule(
    "saturating-activation",
    _saturating,
    ("swap-activation", "reinit-xavier", "add-normalization", "add-residual"),
    explains=("depth-without-shortcut", "learning-rate-too-low"),
)
DEEP = CauseRule(
    "depth-without-shortcut",
    _deep,
    ("add-residual", "add-normalization", "reinit-kaiming", "reinit-orthogonal"),
    explains=("learning-rate-too-low", "learning-rate-too-high"),
)
RECURRENCE = CauseRule(
    "long-recurrence",
    _recurrence,
    ("clip-norm", "lower-lr", "reinit-orthogonal", "add-residual", "clip-adaptive"),
    explains=("depth-without-shortcut", "learning-rate-too-low", "learning-rate-too-high", "saturating-activation"),
)
DYING = CauseRule(
    "dying-relu",
    _dying,
    ("swap-activation", "lower-lr", "reinit-kaiming", "warmup"),
    explains=("learning-rate-too-low", "depth-without-shortcut", "init-too-small"),
)
