"""Mistakes in the training loop and the wiring, each with a direct proof."""

from __future__ import annotations

import numpy as np

from steadygrad.detectors.batchnorm import tiny_layers
from steadygrad.detectors.gradients import common_place, untrained
from steadygrad.diagnosis.base import Argument, CauseRule, Findings
from steadygrad.wording import count, listed


def _zero_grad(findings: Findings, argument: Argument) -> None:
    view = findings.view
    for stream in view.streams:
        count, first, _ = stream.flags.get("stale-gradient", [0, 0, 0])
        looked = max(1, len(stream.samples.all()) - 1)
        if count >= 2 and count >= 0.6 * looked:
            step = view.set_at("backward", "step").partition(" (")[0]
            backward = view.source("backward")
            argument.location = f"{backward} ({step})" if step and step != backward else backward
            argument.add(
                0.97,
                f"the gradient of each step still holds the previous one: it was not cleared before backward (seen from step {first})",
            )
            values = stream.grad_norm.values()
            if len(values) > 8 and float(np.median(values[-len(values) // 4 :])) > 3 * float(values[0]):
                argument.add(0.3, "the gradient norm grows as it would by adding up")
            return


def _detached(findings: Findings, argument: Argument) -> None:
    view = findings.view
    never, zeros, outside = untrained(view)
    if outside:
        argument.location = common_place(view, outside)
        argument.add(0.95, f"{listed(view.history.named(outside))} take part in the loss but are in no optimizer")
    elif never:
        argument.location = common_place(view, never)
        cut = [r for r in never if r not in view.reached]
        if cut:
            argument.add(
                0.95,
                f"no path leads from the loss to {listed(view.history.named(cut))}: the graph is cut (detach, no_grad, .data, .item)",
            )
        else:
            argument.add(0.6, f"{listed(view.history.named(never))} never received a gradient")
    elif zeros and len(zeros) == len([p for p in view.parameters if p.optimizer is not None]):
        argument.location = ""
        argument.add(0.3, "every gradient is exactly zero")


def _tiny_batch(findings: Findings, argument: Argument) -> None:
    tiny = tiny_layers(findings.view)
    if tiny:
        index, values, rows = tiny[0]
        argument.location = findings.view.sites[index].name
        argument.add(
            0.95,
            f"batches of {rows:.0f} feed {count(len(tiny), 'BatchNorm layer')} ({values:.0f} values per channel)",
        )


ZERO_GRAD = CauseRule(
    "missing-zero-grad",
    _zero_grad,
    ("zero-grad",),
    explains=(
        "learning-rate-too-high", "long-recurrence", "missing-warmup", "dying-relu", "depth-without-shortcut", "unstable-operation",
        "saturating-activation", "corrupt-batch", "precision-range", "unnormalized-input",
    ),
)  # fmt: skip
DETACHED = CauseRule(
    "detached-parameters",
    _detached,
    ("attach-parameters",),
    explains=("learning-rate-too-low", "depth-without-shortcut", "saturating-activation", "missing-warmup", "learning-rate-too-high", "dying-relu"),
)  # fmt: skip
TINY_BATCH = CauseRule(
    "tiny-batch-batchnorm",
    _tiny_batch,
    ("replace-batchnorm",),
    explains=("learning-rate-too-high", "missing-warmup", "learning-rate-too-low", "depth-without-shortcut"),
)
