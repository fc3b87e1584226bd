"""The size of the step: learning rate, warm-up, clip threshold, weight decay."""

from __future__ import annotations

import math

import numpy as np

from steadygrad.detectors.clipping import choking
from steadygrad.detectors.gradients import depth_flow
from steadygrad.detectors.losses import rise_onset
from steadygrad.detectors.updates import faded_rate, settled, total_move, weight_growth
from steadygrad.diagnosis.base import Argument, CauseRule, Findings, ramp
from steadygrad.diagnosis.data import first_outlier
from steadygrad.diagnosis.initial import expected_loss
from steadygrad.diagnosis.numerics import calm_before, origins
from steadygrad.history import Array
from steadygrad.online import median
from steadygrad.view import View


def early_ratio(view: View) -> float:
    """Largest median update ratio among the first samples: how hard the first steps hit."""
    ratio = view.matrix_ratio[:8]
    ratio = ratio[np.isfinite(ratio)]
    return float(ratio.max()) if len(ratio) else float("nan")


def rates(view: View) -> tuple[float, float]:
    """(first, largest) learning rate of the main stream."""
    values = view.main.lr.values() if view.main is not None else np.zeros(0)
    return (float(values[0]), float(values.max())) if len(values) else (math.nan, math.nan)


def _rate_place(view: View) -> str:
    """Where the rate is set and where it is used, be it by an optimizer or by hand."""
    return view.set_at("optimizer", "lr") or view.set_at("backward", "rate")


def rate_rise(view: View, step: int) -> tuple[float, float] | None:
    """The usual rate before a step and the one around it, where it had just been raised threefold or more."""
    if view.main is None:
        return None
    steps, values = view.main.lr.steps(), view.main.lr.values()
    at = max(0, int(np.searchsorted(steps, step, side="right")) - 1)
    before, around = values[: max(0, at - 2)], values[max(0, at - 2) : at + 2]
    if len(before) < 5 or not float(around.max()) > 3 * float(np.median(before)) > 0:
        return None
    return float(np.median(before)), float(around.max())


#: What steps that are too large may do to a run.
LARGE_STEP_SYMPTOMS = (
    "diverging-loss", "exploding-gradients", "non-finite", "oscillating-loss", "oversized-updates", "dead-units",
    "stalled-loss", "loss-spike",
)  # fmt: skip


def _too_high(findings: Findings, argument: Argument) -> None:
    view, shape = findings.view, findings.view.loss
    if shape is None or not findings.has(*LARGE_STEP_SYMPTOMS):
        return
    ratio = settled(view)
    typical = float(np.median(ratio)) if len(ratio) else early_ratio(view)
    hardest = max(early_ratio(view), typical)
    argument.location = _rate_place(view)
    argument.add(
        0.8 * ramp(typical, 0.03, 0.5),
        f"a typical step changes the weights by {typical:.2g} times their norm; about 0.001 is usual",
    )
    if hardest > 3 * typical:
        argument.add(
            0.5 * ramp(hardest, 0.1, 2.0), f"the hardest early step changed them by {hardest:.2g} times their norm"
        )
    raised = _loss_left(findings, argument)
    died, growth = _units_died(findings) and hardest > 0.05, weight_growth(view)
    if died:
        argument.add(0.6, "units died right after steps that large")
    if growth > 2:
        argument.add(0.6 * ramp(growth, 2, 20), f"the weights grew {growth:.3g}-fold")
    _doubt_rate(findings, argument)
    if findings.has("stalled-loss") and typical < 0.01 and hardest < 0.1 and not findings.has("dead-units"):
        argument.doubt(0.6, "the updates are not large")
    # Of units that died in a leap of the weights, what came after says nothing: they have no gradient any more.
    typical_counts = not raised and not (died and growth > 5)
    if math.isfinite(typical) and typical < 0.003 and not hardest > 0.2 and typical_counts:
        argument.doubt(0.6, f"the updates are of a usual size ({typical:.1g})")


def _loss_left(findings: Findings, argument: Argument) -> bool:
    """What the loss did under the steps. Whether it left when the rate had just been raised."""
    shape = findings.view.loss
    if shape is None:
        return False
    diverged = findings.first("diverging-loss")
    if diverged is not None or (findings.has("non-finite") and shape.worst > 5 * abs(shape.start)):
        argument.add(
            0.5,
            f"the loss was fine at first ({shape.initial:.3g}) and rose to {max(shape.end, shape.worst):.3g} once steps were taken",
        )
    raised = rate_rise(findings.view, diverged.first_step) if diverged is not None else None
    if raised is not None:
        argument.add(0.8, f"the rate had just been raised from {raised[0]:.3g} to {raised[1]:.3g} when the loss left")
    if findings.has("oscillating-loss"):
        argument.add(0.6, "the loss alternates: each step overshoots the valley it aims for")
    if diverged is None and shape.worst > 3 * max(shape.initial, shape.start):
        argument.add(0.35, f"the first steps drove the loss from {shape.initial:.3g} up to {shape.worst:.3g}")
    return raised is not None


def _units_died(findings: Findings) -> bool:
    """Whether many units that were alive at the start are dead."""
    dead = findings.first("dead-units")
    return dead is not None and dead.evidence["share"] - dead.evidence["share_at_start"] > 0.3


def _doubt_rate(findings: Findings, argument: Argument) -> None:
    """What was wrong before any step could be too large, or would be wrong at any rate."""
    view = findings.view
    if origins(view) and calm_before(view):
        argument.doubt(0.6, "nothing was growing before the first non-finite value")
    expected = expected_loss(view)
    if expected is not None and expected[0] > 5 * expected[1]:
        argument.doubt(0.4, "the loss was far too high before the first step")
    outlier = first_outlier(view)
    if outlier is not None:
        argument.doubt(0.5, f"the trouble began at step {outlier}, whose inputs are outliers: no rate makes inputs")


def _too_low(findings: Findings, argument: Argument) -> None:
    view, shape = findings.view, findings.view.loss
    if shape is None or shape.nonfinite or not findings.has("undersized-updates", "stalled-loss"):
        return
    moved, ratio = total_move(view), median(view.matrix_ratio) if len(view.matrix_ratio) else math.nan
    if not math.isfinite(moved):
        return
    argument.location = _rate_place(view)
    faded = faded_rate(view)
    if faded is not None:
        argument.location = view.set_at("optimizer", "schedule", "schedule_step") or argument.location
        argument.add(
            0.85,
            f"the schedule takes the rate below 1% of its peak at step {faded[0]} of {faded[1]}: is it stepped per batch where epochs were meant?",
        )
    argument.add(
        0.85 * ramp(1 / max(moved, 1e-30), 20, 200),
        f"the weights can have moved by {100 * moved:.2g}% of their norm at most in {view.history.steps} steps",
    )
    argument.add(
        0.4 * ramp(1e-3 / max(ratio, 1e-30), 10, 300),
        f"a typical step changes the weights by {ratio:.1g} times their norm; about 0.001 is usual",
    )
    if shape.relative_drop > 0 and straightness(view) > 0.9 and shape.drop > 3:
        argument.add(0.4, "the loss falls slowly along a straight line")
    _doubt_small_rate(findings, argument)


def _doubt_small_rate(findings: Findings, argument: Argument) -> None:
    """What else makes steps small: a gradient that does not arrive, or a clip."""
    view = findings.view
    flow = depth_flow(view, 0) if view.samples else None
    if flow is not None and flow.decades < -3:
        argument.doubt(0.5, f"the gradient fades by 1e{-flow.decades:.0f} on its way to the first layers")
    if faded_rate(view) is None and findings.has("vanishing-gradients", "dead-units", "zero-gradients"):
        argument.doubt(0.7, "the gradient itself is missing: a larger rate would not bring it back")
    if any(choking(view, s) is not None for s in view.streams):
        argument.doubt(0.6, "the clip is what makes the steps small")


def straightness(view: View) -> float:
    """Squared correlation of the loss with a straight line over steps."""
    values = view.main.loss.values() if view.main is not None else np.zeros(0)
    if len(values) < 10 or float(values.std()) == 0:
        return 0.0
    return float(np.corrcoef(np.arange(len(values)), values)[0, 1] ** 2)


#: What large first steps may leave behind.
FIRST_STEP_SYMPTOMS = (
    "stalled-loss", "diverging-loss", "loss-spike", "exploding-gradients", "oversized-updates", "vanishing-gradients",
    "oscillating-loss",
)  # fmt: skip


def _warmup(findings: Findings, argument: Argument) -> None:
    view, shape = findings.view, findings.view.loss
    first, peak = rates(view)
    if shape is None or not view.adaptive or not (view.has_attention or view.has_norm) or not first > 0.5 * peak:
        return
    poor = shape.n >= 80 and shape.relative_drop < 0.4 and not shape.nonfinite and not view.signed_loss
    if not findings.has(*FIRST_STEP_SYMPTOMS) and not (poor and view.has_attention):
        return
    argument.location = view.set_at("optimizer", "schedule", "lr")
    rate = f"{view.optimizer_type()} takes its full rate ({first:.2g}) from the first step"
    if view.has_attention:
        argument.add(0.35, f"{rate}, in a model with attention")
    else:
        argument.add(0.15, rate)
    hit = early_ratio(view)
    if hit > 0.01:
        argument.add(
            (0.65 if view.has_attention else 0.35) * ramp(hit, 0.01, 0.06),
            f"the first steps changed the weights by {hit:.2g} times their norm; with a ramp it would be about 0.001",
        )
    highest = _highest_opening(view)
    if highest > 1.15 * shape.initial:
        argument.add(0.4, f"the loss rose from {shape.initial:.3g} to {highest:.3g} within the first steps")
    if view.has_attention and (poor or findings.has("stalled-loss")) and first <= 0.02:
        argument.add(0.35, "after a quick first drop it got stuck where the first steps had thrown it")
    _doubt_warmup(findings, argument, first=first, hit=hit)


def _highest_opening(view: View) -> float:
    """The highest loss of the first fifth of the run; -inf without any."""
    values = view.main.loss.values() if view.main is not None else np.zeros(0)
    return float(values[: max(10, len(values) // 5)].max(initial=-math.inf))


def _doubt_warmup(findings: Findings, argument: Argument, *, first: float, hit: float) -> None:
    """Where a ramp to the same rate would change little: ``first`` is that rate, ``hit`` what its first steps did."""
    view, shape = findings.view, findings.view.loss
    if first > 0.03:
        argument.doubt(0.5, f"a rate of {first:.2g} is too high with a warm-up as well")
    if not view.has_attention:
        argument.doubt(0.4, "without attention a warm-up is seldom what is missing")
    if hit < 0.01:
        argument.doubt(0.5, f"the first steps were small ({hit:.1g} of the weights)")
    if view.main is None or shape is None or not findings.has("diverging-loss"):
        return
    if rise_onset(view.main, shape) > 0.4 * view.history.steps:
        argument.doubt(0.6, "the trouble came late, long after the first steps")


def _clip_low(findings: Findings, argument: Argument) -> None:
    view = findings.view
    for stream in view.streams:
        strength = choking(view, stream)
        if strength is None:
            continue
        argument.location = view.set_at("clip", "max_norm", "clip_value") or view.source("backward")
        argument.add(
            0.9 * ramp(1 / max(strength, 1e-30), 20, 100),
            f"the clip at {stream.clip.threshold:.3g} leaves {strength:.2g} of a typical gradient, on nearly every step",
        )
        if findings.has("stalled-loss", "undersized-updates"):
            argument.add(0.5, "the loss hardly moves")
        if view.adaptive:
            argument.doubt(
                0.5, f"{view.optimizer_type(stream)} divides by the gradient's scale, so a constant factor cancels"
            )
        if findings.has("exploding-gradients"):
            argument.doubt(0.7, "the gradient explodes: the clip only reacts to it")
        if findings.learning and not findings.has("ineffective-clipping"):
            argument.doubt(0.8, "the loss falls all the same")
        return


def _decay(findings: Findings, argument: Argument) -> None:
    view = findings.view
    decayed = [p.index for p in view.parameters if p.weight_decay > 0 and p.index in set(view.matrices)]
    rows = decayed or view.penalised
    if view.main is None or not rows or not len(view.samples):
        return
    weights = view.parameter("weight_norm")[:, rows]
    with np.errstate(all="ignore"):
        shrink = median(_last_finite(weights) / weights[0]) if np.isfinite(weights[0]).any() else 1.0
    argument.location = view.set_at("optimizer", "weight_decay") if decayed else view.set_at("backward", "loss")
    if decayed:
        _decay_force(findings, argument, decayed, weights)
    elif shrink < 0.5:
        argument.add(0.4, "the loss holds a penalty on the weights themselves")
    if shrink < 0.7:
        argument.add(
            0.6 * ramp(1 / max(shrink, 1e-9), 1.4, 3), f"the weights shrank to {shrink:.2g} of their first norm"
        )
    elif shrink > 0.95 and argument.confidence < 0.6:
        argument.doubt(0.8, "the weights do not shrink")
    coefficient = max((view.parameters[r].weight_decay for r in decayed), default=0.0)
    if decayed and coefficient <= 0.1 and weight_growth(view) > 2:
        argument.doubt(
            0.7,
            f"weight_decay={coefficient:g} is a usual value, and the weights grow all the same: the rate is what is large",
        )
    if findings.learning and not findings.trouble:
        gentle = bool(decayed) and coefficient <= 0.1
        argument.doubt(0.8 if gentle else 0.15, "the loss falls all the same")


def _decay_force(findings: Findings, argument: Argument, decayed: list[int], weights: Array) -> None:
    """The decay term beside the gradient it competes with, and how fast it would shrink the weights alone."""
    view = findings.view
    coefficient = max(view.parameters[r].weight_decay for r in decayed)
    decoupled = view.optimizer_type() == "AdamW" or bool(view.hyper("decoupled_weight_decay"))
    rate = rates(view)[1]
    numel = np.array([math.prod(view.parameters[r].shape) for r in decayed])
    gradients = view.parameter("grad_std")[:, decayed] * np.sqrt(numel)
    with np.errstate(all="ignore"):
        force = coefficient * weights / gradients
    force = force[np.isfinite(force)]
    if not decoupled and len(force):
        typical = float(np.median(force))
        argument.add(
            0.6 * ramp(typical, 1.0, 10),
            f"with weight_decay={coefficient:g} the decay term is {typical:.2g} times the gradient on a typical step",
        )
    momentum = 0.0 if view.adaptive else min(0.99, view.hyper("momentum"))
    steps = (1 - momentum) / max(rate * coefficient, 1e-30)
    if decoupled or not view.adaptive:
        argument.add(
            0.8 * ramp(view.history.steps / steps, 1.0, 5),
            f"with rate {rate:.2g} and weight_decay={coefficient:g} the decay alone shrinks the weights to a third every {steps:.0f} steps",
        )


def _last_finite(weights: Array) -> Array:
    """Each column's last finite value."""
    return np.array([c[np.isfinite(c)][-1] if np.isfinite(c).any() else np.nan for c in weights.T])


TOO_HIGH = CauseRule(
    "learning-rate-too-high",
    _too_high,
    ("lower-lr", "line-search", "clip-norm", "warmup", "adaptive-optimizer", "decay-schedule"),
    explains=("dying-relu", "unstable-operation", "precision-range", "corrupt-batch", "saturating-activation"),
)
TOO_LOW = CauseRule("learning-rate-too-low", _too_low, ("raise-lr", "adaptive-optimizer", "constant-lr"))
WARMUP = CauseRule(
    "missing-warmup", _warmup, ("warmup", "lower-lr", "clip-norm"), explains=("learning-rate-too-high", "dying-relu")
)
CLIP_LOW = CauseRule("clip-threshold-too-low", _clip_low, ("loosen-clip",), explains=("learning-rate-too-low",))
DECAY = CauseRule(
    "excessive-weight-decay",
    _decay,
    ("reduce-weight-decay",),
    explains=("learning-rate-too-low", "init-too-small", "depth-without-shortcut", "saturating-activation"),
)
