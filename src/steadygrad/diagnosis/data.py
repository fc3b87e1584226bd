"""What goes in: unscaled inputs, corrupt batches, and losses fed with the wrong thing."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from steadygrad.detectors.activations import SQUASHING, saturated_layers
from steadygrad.diagnosis.base import Argument, CauseRule, Findings, ramp
from steadygrad.history import Spike
from steadygrad.view import View


def inputs_saturate(view: View) -> bool:
    """Whether inputs are large and, of several sigmoid or tanh layers, just the first is saturated."""
    squashing = [s.index for s in view.sites if s.kind == "activation" and s.activation in SQUASHING]
    saturated = [site for site, *_ in saturated_layers(view)]
    size = math.hypot(view.batch.get("input_std", 0.0), view.batch.get("input_mean", 0.0))
    return len(squashing) > 1 and saturated == squashing[:1] and size > 5


def _unnormalized(findings: Findings, argument: Argument) -> None:
    view, batch = findings.view, findings.view.batch
    if "input_std" not in batch or not (findings.trouble or math.hypot(batch["input_std"], batch["input_mean"]) > 100):
        return
    first = next((s for s in view.sites if s.params), None)
    argument.location = (first.name if first is not None else "") or view.input_parameter
    std, mean, peak = batch["input_std"], abs(batch["input_mean"]), batch["input_max"]
    scale = math.hypot(std, mean)
    argument.add(
        0.8 * ramp(scale, 5, 60),
        f"the inputs are of size {scale:.3g} (mean {batch['input_mean']:.3g}, max {peak:.3g}); layers expect about 1",
    )
    argument.add(
        0.6 * ramp(0.02 / max(scale, 1e-30), 1, 30), f"the inputs are of size {scale:.1g}; layers expect about 1"
    )
    big, small = batch.get("input_feature_max", 0.0), batch.get("input_feature_min", 1.0)
    middle = batch.get("input_feature_median", 1.0)
    if big > 5 and big / max(middle, 1e-30) > 5:
        argument.add(
            0.5 * ramp(big / max(small, 1e-30), 50, 5000),
            f"feature scales are very uneven: from {small:.1g} to {big:.3g}",
        )
    offset = batch.get("input_offset", 0.0)
    if offset > 4:
        argument.add(0.5 * ramp(offset, 4, 40), f"the features lie {offset:.0f} standard deviations from zero")
    flooded = inputs_saturate(view)
    if flooded:
        argument.add(0.4, "they push the first activation into its flat tails, and the later ones not")
    if first is not None and first.kind == "norm":
        argument.doubt(0.7, "the model normalises its inputs itself")
    if findings.learning and not flooded and not findings.has("non-finite", "diverging-loss", "dead-units"):
        argument.doubt(0.5 if scale < 1000 else 0.2, "the loss falls all the same")


# -- corrupt batches ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Oddity:
    """How a batch's inputs or targets differ from the usual ones, in words, and how many times."""

    what: str
    times: float = math.inf


def odd_batch(view: View, batch: dict[str, float]) -> Oddity | None:
    """How a batch's inputs or targets differ from the usual ones, if they do."""
    usual = view.batch
    for key in ("input", "target"):
        if batch.get(f"{key}_nonfinite", 0) > 0:
            return Oddity(f"its {key}s hold {batch[f'{key}_nonfinite']:.0f} NaN or Inf values")
        for measure in ("max", "std"):
            name = f"{key}_{measure}"
            if name in batch and name in usual and batch[name] > 5 * max(usual[name], 1e-12):
                what = f"its {key}s reach {measure} {batch[name]:.3g}, usually {usual[name]:.3g}"
                return Oddity(what, batch[name] / max(usual[name], 1e-12))
        name = f"{key}_mean"
        if name in batch and name in usual:
            away = abs(batch[name] - usual[name]) / (usual.get(f"{key}_std", 0) + 1e-12)
            if away > 10:
                return Oddity(f"its {key}s have mean {batch[name]:.3g}, usually {usual[name]:.3g}", away)
    return None


def first_outlier(view: View) -> int | None:
    """The step of the first spike of the loss, where the inputs of its batch are outliers; None where they are not."""
    spikes = [s for stream in view.streams for s in stream.spikes]
    first = min(spikes, key=lambda s: s.step, default=None)
    odd = odd_batch(view, first.batch) if first is not None and first.batch else None
    return first.step if first is not None and odd is not None and odd.what.startswith("its inputs") else None


def _corrupt(findings: Findings, argument: Argument) -> None:
    view = findings.view
    for spike in _worst_spikes(view):
        odd = odd_batch(view, spike.batch)
        if odd is not None:
            argument.location = _entrance(view, odd.what)
            # Rare rewards, or a class that is seen now and then, are outliers too, and do no harm.
            weight = 0.9 if findings.trouble else 0.9 * ramp(odd.times, 5, 100)
            argument.add(weight, f"the batch of step {spike.step} is an outlier: {odd.what}")
            return
    for fact in view.history.facts("bad-batch"):
        argument.location = _entrance(view, str(fact.data["what"]))
        argument.add(0.95, f"the batch of step {fact.step} holds NaN or Inf: {fact.data['what']}")
        return
    spike_seen = findings.first("loss-spike")
    if spike_seen is not None and spike_seen.count <= 2:
        argument.location = _entrance(view, "inputs")
        times = float(spike_seen.evidence["times"])
        argument.add(
            0.45 + 0.3 * ramp(times, 5, 500),
            f"the loss of a single batch was {times:.3g} times the usual while the ones before it were fine",
        )


def _entrance(view: View, what: str) -> str:
    """Where such data enters: the loss for targets, the first module for inputs, with the line that feeds it."""
    if "target" in what and view.loss_calls:
        return _site(view.loss_calls[0])
    first = next((s.name for s in view.sites if s.params and s.name), "") or view.input_parameter
    line = view.set_at("backward", "loss").partition(" (")[0]
    return f"{first} ({line})" if first and line else first or line


def _worst_spikes(view: View) -> list[Spike]:
    spikes = [s for stream in view.streams for s in stream.spikes]
    finite = [s for s in spikes if s.batch]
    return sorted(finite, key=lambda s: -(s.loss - s.centre))[:8]


# -- loss misuse --------------------------------------------------------------------------------------------------


def _misuse(findings: Findings, argument: Argument) -> None:
    view = findings.view
    chain = [str(op) for op in view.graph.get("chain", [])]
    _doubled_activation(chain, view, argument)
    for call in view.loss_calls[:3]:
        if not argument.location:
            argument.location = _site(call)
        _probabilities_for_logits(call, chain, argument)
        _logits_for_probabilities(call, chain, argument)
        _broadcast(call, argument)
    if view.graph.get("broadcast"):
        argument.location = view.set_at("backward", "loss")
        argument.add(
            0.95,
            f"prediction and target are broadcast ({view.graph['broadcast']}): every prediction is compared with every target",
        )
    _sum_reduction(findings, argument)
    _add_criterion(view, argument)


def _add_criterion(view: View, argument: Argument) -> None:
    """Beside where the loss is called, where it was built: that is the line to change for a loss module."""
    built = view.set_at("backward", "criterion").partition(" (")[0]
    if built and built != view.source("backward") and argument.weights and built not in argument.location:
        before = argument.location.removesuffix(")")
        argument.location = f"{before}, {built})" if before != argument.location else f"{before} ({built})".lstrip()


def _site(call: dict[str, Any]) -> str:
    return str(call.get("site", "")).rsplit("/", 1)[-1]


#: Neighbours in the graph, the one nearer to the loss first, of which the second should not be there.
DOUBLED = {
    ("LogSoftmax", "Softmax"): "the output passes through softmax, and cross_entropy applies log-softmax to it again",
    ("LogSoftmax", "LogSoftmax"): "the output passes through log-softmax, and cross_entropy applies it again",
    ("LogSoftmax", "Sigmoid"): "the output passes through sigmoid, and cross_entropy takes it for logits",
    ("LogSoftmax", "Relu"): "the output passes through ReLU before cross_entropy: no logit can be negative",
    ("BinaryCrossEntropyWithLogits", "Sigmoid"): "the output passes through sigmoid, and the loss applies a sigmoid again",
    ("BinaryCrossEntropyWithLogits", "Softmax"): "the output passes through softmax, and the loss takes it for logits",
}  # fmt: skip
#: Operations between such neighbours that only rearrange or scale.
BETWEEN = ("Squeeze", "View", "Unsqueeze", "Reshape", "UnsafeView", "Select", "Mul", "Div", "Mean")


def _doubled_activation(chain: list[str], view: View, argument: Argument) -> None:
    for pair in itertools.pairwise(op for op in chain if op not in BETWEEN):
        if pair in DOUBLED:
            argument.location = _output_activation(view, pair[1])
            argument.add(0.7 if pair[1] == "Relu" else 0.95, DOUBLED[pair])
            return


def _output_activation(view: View, op: str) -> str:
    """The module that applies the superfluous activation, with the line of the loss; "" where it is no module."""
    kind = {"LogSoftmax": "softmax"}.get(op, op.lower())
    last = [view.place(s.index) for s in view.sites if s.kind == "activation" and s.activation == kind][-1:]
    line = next((_site(call) for call in view.loss_calls if call.get("site")), "")
    return f"{last[0]} ({line})" if last and line else ""


def _probabilities_for_logits(call: dict[str, Any], chain: list[str], argument: Argument) -> None:
    if argument.weights or call["name"] != "cross_entropy" or call.get("classes", 0) < 2:
        return
    if call.get("rows_sum_to_one"):
        argument.add(0.9, "cross_entropy was given rows that sum to one: probabilities, where logits belong")


def _logits_for_probabilities(call: dict[str, Any], chain: list[str], argument: Argument) -> None:
    if argument.weights or "min" not in call:
        return
    if call["name"] == "nll_loss" and not call.get("log_normalized", True):
        argument.add(
            0.95, f"nll_loss was given values in [{call['min']:.3g}, {call['max']:.3g}] that are no log-probabilities"
        )
    if call["name"] == "kl_div" and call["max"] > 1e-6:
        argument.add(
            0.9, f"kl_div was given values up to {call['max']:.3g}; it takes log-probabilities, which are never above 0"
        )


def _broadcast(call: dict[str, Any], argument: Argument) -> None:
    prediction, target = call.get("prediction_shape", []), call.get("target_shape", [])
    if call["name"] not in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss") or prediction == target:
        return
    if prediction and target and math.prod(prediction) == math.prod(target):
        argument.add(
            0.95, f"{call['name']} broadcasts prediction {prediction} against target {target}: every pair is compared"
        )


def _is_divided(call: dict[str, Any]) -> bool:
    """Whether what went into the backward pass is far less than the sum, or not to be compared: a NaN, say."""
    value, loss = abs(float(call.get("value", 0.0))), abs(float(call.get("loss", math.inf)))
    return loss < 0.5 * value or not math.isfinite(value)


def _sum_reduction(findings: Findings, argument: Argument) -> None:
    view = findings.view
    summed = [c for c in view.loss_calls if c.get("reduction") == "sum" and not _is_divided(c)]
    if not summed or argument.weights:
        return
    size = max(math.prod(c.get("target_shape") or c.get("prediction_shape") or [1]) for c in summed)
    ratio = view.matrix_ratio[np.isfinite(view.matrix_ratio)]
    if size >= 8 and findings.trouble and not findings.learning and len(ratio) and float(np.median(ratio[:8])) > 0.01:
        argument.location = _site(summed[0])
        argument.add(
            0.45,
            f"the loss is summed over {size} values, so gradient and effective rate are {size} times those of a mean",
        )


UNNORMALIZED = CauseRule(
    "unnormalized-input",
    _unnormalized,
    ("standardize-input", "add-normalization", "lower-lr", "adaptive-optimizer"),
    explains=("learning-rate-too-high", "dying-relu", "saturating-activation", "missing-warmup", "init-too-large", "learning-rate-too-low", "depth-without-shortcut"),
)  # fmt: skip
CORRUPT = CauseRule(
    "corrupt-batch",
    _corrupt,
    ("skip-bad-step", "clip-norm"),
    explains=("learning-rate-too-high", "unstable-operation", "precision-range", "long-recurrence", "missing-warmup"),
)
MISUSE = CauseRule(
    "loss-misuse",
    _misuse,
    ("loss-on-logits", "mean-reduction", "match-shapes", "lower-lr"),
    explains=("learning-rate-too-low", "learning-rate-too-high", "missing-warmup", "saturating-activation", "unstable-operation", "dying-relu", "init-too-large"),
)  # fmt: skip
