"""Whether a run has what a remedy changes: no line search without LBFGS, no other BatchNorm without a BatchNorm.

Answered from what was recorded, the same for the advice at the end of a run and for what ``fix`` tries. What was not
observed (modules of a compiled model, say) rules nothing out.
"""

from __future__ import annotations

import math

import numpy as np

from steadygrad.records import OptimizerInfo
from steadygrad.remedies.numbers import good_threshold
from steadygrad.view import View

#: Inputs of this size and offset are what layers are made for; features this uneven are not.
USUAL_SIZE, USUAL_OFFSET, UNEVEN = (0.1, 3.0), 3.0, 30.0
#: One normalisation for so many hidden layers keeps the scale.
LAYERS_PER_NORM = 3
HALF = ("float16", "bfloat16")
#: Recurrent modules whose state has no way past their weights; the gates of an LSTM and a GRU are such a way.
UNGATED = ("RNN", "RNNCell", "GRUCell")


def always(view: View) -> bool:
    """For any run."""
    return True


def optimizer(view: View) -> OptimizerInfo | None:
    """The main stream's optimizer."""
    index = view.main.index if view.main is not None else None
    return next((o for o in view.history.optimizers if o.index == index), None)


def can_search(view: View) -> bool:
    """LBFGS that does not search for the length of its step yet."""
    found = optimizer(view)
    return found is not None and found.type == "LBFGS" and not found.hyper.get("line_search_fn")


def gradients_can_be_changed(view: View) -> bool:
    """LBFGS evaluates its closure again and again: what was done to the gradients before its step is lost."""
    return view.optimizer_type() != "LBFGS"


def has_good_steps(view: View) -> bool:
    """Not where every gradient is NaN or Inf: no clip makes them finite, and no step is left beside those left out."""
    norms = [stream.grad_norm for stream in view.streams]
    return gradients_can_be_changed(view) and any(norm.count > norm.nonfinite for norm in norms)


def own_clip(view: View) -> float:
    """The threshold of the script's own clip by norm, where it clips as a rule; infinite otherwise."""
    if view.main is None:
        return math.inf
    clip = view.main.clip
    if clip.kind != "norm" or not clip.threshold > 0 or not 2 * clip.calls > view.main.steps:
        return math.inf
    return clip.threshold


def can_clip(view: View) -> bool:
    """Not where the script's own clip holds usual gradients already: a tighter one would be a lower rate.

    Nor where every gradient is zero.
    """
    norms = view.main.grad_norm.values() if view.main is not None else np.zeros(0)
    if len(norms) and not norms[np.isfinite(norms)].any():
        return False
    found = good_threshold(view)
    limit = own_clip(view)
    return has_good_steps(view) and not (limit < math.inf and limit <= 1.5 * (found[0] if found else limit))


def clips(view: View) -> bool:
    """The script clips."""
    return any(stream.clip.calls for stream in view.streams)


def _rates(view: View) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    values = view.main.lr.values() if view.main is not None else np.zeros(0)
    return values[np.isfinite(values)]


def has_no_warmup(view: View) -> bool:
    """The rate does not climb to its peak from less than half of it. A single jump is no ramp."""
    values = _rates(view)
    rising = values[: int(values.argmax()) + 1] if len(values) else values
    return not (len(np.unique(rising)) >= 3 and rising[0] < 0.5 * rising[-1])


def has_no_decay(view: View) -> bool:
    """The rate does not end far below its peak."""
    values = _rates(view)
    return not len(values) or not values[-1] < 0.5 * values.max()


def has_matrices(view: View) -> bool:
    """There are weights to draw anew."""
    return bool(view.matrices)


def has_modules(view: View) -> bool:
    """... in modules, whose outputs can be measured."""
    return any(view.parameters[row].module_type for row in view.matrices)


def can_normalize(view: View) -> bool:
    """There are hidden layers, and more of them than normalisations keep at their scale already."""
    layers = sum(s.kind in ("linear", "conv") for s in view.weighted_sites) or len(view.matrices)
    norms = max(int(view.graph.get("norms", 0)), sum(s.kind == "norm" for s in view.sites))
    return layers >= 2 and LAYERS_PER_NORM * norms < layers - 1


def can_shortcut(view: View) -> bool:
    """A stack without shortcuts that holds square layers, or a state that goes through its weights at every step."""
    if any(s.type in UNGATED for s in view.sites) or (view.reused and not _gated(view)):
        return True
    shapes = [view.parameters[row].shape for row in view.matrices]
    plain = not view.graph or (view.depth >= 3 and 3 * view.depth >= view.longest_path)
    return plain and len(shapes) >= 3 and any(shape[0] == shape[1] for shape in shapes)


def _gated(view: View) -> bool:
    return any(s.kind == "recurrent" for s in view.sites)


def input_is_off(view: View) -> bool:
    """The inputs are not of the size and offset that layers are made for."""
    batch = view.batch
    if "input_std" not in batch:
        return False
    size, offset = math.hypot(batch["input_std"], batch.get("input_mean", 0.0)), batch.get("input_offset", 0.0)
    big, small = batch.get("input_feature_max", size), batch.get("input_feature_min", size)
    uneven = small > 0 and big > UNEVEN * small
    return not USUAL_SIZE[0] <= size <= USUAL_SIZE[1] or big > USUAL_SIZE[1] or offset > USUAL_OFFSET or uneven


def has_half_precision(view: View) -> bool:
    """Something is held or computed in half precision."""
    if any(p.dtype in HALF for p in view.parameters) or view.history.facts("half-precision"):
        return True
    traced = [fact.data for fact in view.history.facts("origin")]
    return any(d.get("dtype") in HALF or any(v.get("dtype") in HALF for v in d.get("inputs", [])) for d in traced)


def has_batchnorm(view: View) -> bool:
    """A BatchNorm took part."""
    return any(s.kind == "norm" and "BatchNorm" in s.type for s in view.sites)
