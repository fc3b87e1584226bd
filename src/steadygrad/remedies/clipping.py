"""Clipping gradients, loosening a clip, leaving out bad steps."""

from __future__ import annotations

import numpy as np

from steadygrad.records import Cause
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.numbers import good_threshold, high_threshold, round_to
from steadygrad.view import View


def _norm_words(view: View, cause: Cause) -> tuple[str, str]:
    found = good_threshold(view)
    threshold, share = found if found is not None else (1.0, float("nan"))
    clipped = f"; it would have clipped {share:.0%} of this run's steps" if found is not None else ""
    why = (
        f"Limits how far one bad gradient can throw the weights, and keeps its direction. {threshold:g} is "
        f"the median of this run's calm gradient norms{clipped}. Without such figures, 1.0 is the usual start "
        "(1.0 to 2.0 for RNNs)."
    )
    return why, (
        f"loss.backward()\ntorch.nn.utils.clip_grad_norm_(model.parameters(), max_norm={threshold:g})\noptimizer.step()"
    )


def _norm_values(view: View, cause: Cause) -> list[str]:
    found = good_threshold(view)
    own = [found[0]] if found is not None and 0 < found[0] < 1e4 else []
    wanted = own + [v for v in (1.0, 0.1) if not own or not 0.3 < v / own[0] < 3]
    return [f"{v:g}" for v in wanted]


def _value_words(view: View, cause: Cause) -> tuple[str, str]:
    return (
        "Caps every gradient entry by itself; useful when single entries are wild.",
        "torch.nn.utils.clip_grad_value_(model.parameters(), clip_value=1.0)",
    )


def _adaptive_words(view: View, cause: Cause) -> tuple[str, str]:
    return (
        "A threshold that follows the recent gradient norms, loose early and strict late.",
        "norms.append(float(norm)); limit = sorted(norms[-100:])[len(norms[-100:]) * 9 // 10]\n"
        "torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=limit)",
    )


def _loosen_words(view: View, cause: Cause) -> tuple[str, str]:
    found = good_threshold(view)
    value = found[0] if found is not None else 1.0
    return (
        f"A threshold of {value:g} would leave the smaller half of this run's gradients as they are.",
        f"torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm={value:g})",
    )


def _loosen_values(view: View, cause: Cause) -> list[str]:
    stream = view.main
    high = high_threshold(view)
    if stream is not None and stream.clip.kind == "value":
        peaks = view.parameter("grad_max")
        largest = peaks[np.isfinite(peaks).any(axis=1)]
        high = round_to(float(np.median(np.nanmax(largest, axis=1))), 1) if len(largest) else None
    if stream is None or high is None or not high > 3 * stream.clip.threshold:
        return ["off"]  # only what the clip left of the gradients was measured: nothing to set a threshold by
    return [f"{high:g}", "off"]


def _skip_words(view: View, cause: Cause) -> tuple[str, str]:
    return (
        "One batch must not be able to ruin the weights. Find the batch as well: its data is wrong.",
        "norm = torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=1.0)\n"
        "if torch.isfinite(norm):\n    optimizer.step()\noptimizer.zero_grad()",
    )


REMEDIES = (
    Remedy(
        "clip-norm",
        "gradients that explode now and then, recurrent nets above all",
        "Too large does nothing, too small stops learning. "
        "It cures neither a bad initialisation nor vanishing gradients.",
        "clip-norm:1.0",
        _norm_words,
        _norm_values,
    ),
    Remedy(
        "clip-value",
        "single gradient entries that are wild",
        "Changes the gradient's direction; prefer clipping by norm.",
        "clip-value:0.5",
        _value_words,
        lambda view, cause: ["1", "0.1"],
    ),
    Remedy(
        "clip-adaptive",
        "gradients whose usual size changes over the run",
        "The first steps, before there is a history, are not protected.",
        "clip-adaptive:1.5",
        _adaptive_words,
    ),
    Remedy(
        "loosen-clip",
        "a clip that scales every step down so far that learning stops",
        "With plain SGD the steps grow at once: lower the rate if the loss gets rough.",
        "loosen-clip:1.0",
        _loosen_words,
        _loosen_values,
    ),
    Remedy(
        "skip-bad-step",
        "single batches that are corrupt: NaN, sentinels, wrong units",
        "Skipping hides a persistent fault; count the skips.",
        "skip-bad-step:10",
        _skip_words,
        lambda view, cause: ["", "4"],
    ),
)
