"""Clipping gradients, loosening a clip, leaving out bad steps."""

from __future__ import annotations

import math

import numpy as np

from steadygrad.records import Cause
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.fitting import can_clip, clips, gradients_can_be_changed, has_good_steps, own_clip
from steadygrad.remedies.numbers import good_threshold, high_threshold, round_to
from steadygrad.view import View


def _norm_words(view: View, cause: Cause) -> tuple[str, str]:
    found = good_threshold(view)
    threshold, share = found if found is not None else (1.0, math.nan)
    why = "Limits how far one bad gradient can throw the weights, and keeps its direction."
    if own_clip(view) < math.inf:
        why += f" The script's own clip at {own_clip(view):g} lets such gradients pass."
    note = "the usual start; 1.0 to 2.0 for RNNs"
    if found is not None:
        note = f"the median norm before any trouble; would have clipped {share:.0%} of this run's steps"
    clip = f"torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm={threshold:g})  # {note}"
    return why, f"loss.backward()\n{clip}\noptimizer.step()"


def _norm_values(view: View, cause: Cause) -> list[str]:
    found = good_threshold(view)
    own = [found[0]] if found is not None and 0 < found[0] < 1e4 else []
    wanted = own + [v for v in (1.0, 0.1) if not own or not 0.3 < v / own[0] < 3]
    return [f"{v:g}" for v in wanted if v < 0.7 * own_clip(view)]


def _value_words(view: View, cause: Cause) -> tuple[str, str]:
    return (
        "Caps every gradient entry by itself; useful when single entries are wild.",
        "torch.nn.utils.clip_grad_value_(model.parameters(), clip_value=1.0)",
    )


def _adaptive_words(view: View, cause: Cause) -> tuple[str, str]:
    return (
        "A threshold that follows the gradient norms of the last 100 steps, so that it fits early and late in the run.",
        "norms = []  # once, before the loop\n"
        "limit = sorted(norms[-100:])[len(norms[-100:]) * 9 // 10] if norms else 1e9\n"
        "norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=limit)))",
    )


def _loosen_words(view: View, cause: Cause) -> tuple[str, str]:
    by_value = view.main is not None and view.main.clip.kind == "value"
    function, argument = ("clip_grad_value_", "clip_value") if by_value else ("clip_grad_norm_", "max_norm")
    first = _loosen_values(view, cause)[0]
    if first == "off":
        why = "How large the gradients are before the clip is not known. A huge threshold clips nothing; the norm that "
        why += "clip_grad_norm_ returns then tells what to set."
    else:
        why = f"A threshold of {first} leaves nine in ten of this run's gradients as they are."
    value = "1e9" if first == "off" else first
    return why, f"torch.nn.utils.{function}(model.parameters(), {argument}={value})"


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
    found = good_threshold(view)
    limit = f"norm < {round_to(10 * found[0], 2):g}" if found is not None else "torch.isfinite(norm)"
    why = "One batch must not be able to ruin the weights. Find the batch as well: its data is wrong."
    if found is not None:
        why += f" A usual gradient of this run has norm {found[0]:g}; ten times that, or NaN, is left out."
    return why, (
        "norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])\n"
        f"if {limit}:\n    optimizer.step()\noptimizer.zero_grad()"
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
        can_clip,
    ),
    Remedy(
        "clip-value",
        "single gradient entries that are wild",
        "Changes the gradient's direction; prefer clipping by norm.",
        "clip-value:0.5",
        _value_words,
        lambda view, cause: ["1", "0.1"],
        gradients_can_be_changed,
    ),
    Remedy(
        "clip-adaptive",
        "gradients whose usual size changes over the run",
        "The first steps, before there is a history, are not protected.",
        "clip-adaptive:1.5",
        _adaptive_words,
        fits=can_clip,
    ),
    Remedy(
        "loosen-clip",
        "a clip that scales every step down so far that learning stops",
        "With plain SGD the steps grow at once: lower the rate if the loss gets rough.",
        "loosen-clip:1.0",
        _loosen_words,
        _loosen_values,
        clips,
    ),
    Remedy(
        "skip-bad-step",
        "single batches that are corrupt: NaN, sentinels, wrong units",
        "Skipping hides a persistent fault; count the skips.",
        "skip-bad-step:10",
        _skip_words,
        lambda view, cause: ["", "4"],
        has_good_steps,
    ),
)
