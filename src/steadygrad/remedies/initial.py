"""Drawing the weights anew."""

from __future__ import annotations

import math
from collections.abc import Callable

from steadygrad.records import Cause, ParameterInfo
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.fitting import has_matrices, has_modules
from steadygrad.remedies.numbers import path_to
from steadygrad.view import View

RISK = "Throws away pretrained weights: only for layers that start from scratch."
#: Modules whose weight is ``[out, in, ...]`` and has that name, and those that have several such weights.
LAYERS, CELLS = ("Linear", "Conv"), ("RNN", "GRU", "LSTM")
#: A layer starts at an unusual size where its gain (weight RMS times sqrt(fan_in)) is outside of these.
USUAL_GAIN = (0.25, 3.0)


def _words(rule: str, words: str, bare: str = "") -> Callable[[View, Cause], tuple[str, str]]:
    """``bare`` is the rule for a tensor used as ``x @ w``, where it differs: inputs and outputs are exchanged."""

    def text(view: View, cause: Cause) -> tuple[str, str]:
        worst, odd = _worst(view, cause), odd_layers(view)
        if worst is not None and (len(odd) == 1 or not worst.module_type.startswith(LAYERS)):
            own = worst.module_type.startswith((*LAYERS, *CELLS))
            weight = path_to(view, worst.name) if worst.module_type else worst.name
            line = (rule if own or not bare else bare).format(weight=weight)
            return f"{words} For this weight{'' if len(odd) == 1 else ', and likewise the others'}.", line
        return (
            f"{words} Applied before the optimizer is built, to every weight matrix.",
            "for module in model.modules():\n"
            "    if isinstance(module, (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d)):\n"
            f"        {rule.format(weight='module.weight')}\n"
            "        if module.bias is not None:\n"
            "            torch.nn.init.zeros_(module.bias)",
        )

    return text


def _worst(view: View, cause: Cause) -> ParameterInfo | None:
    """The only weight matrix of an unusual size, else that which the cause names, else the first."""
    rows, odd = [view.parameters[row] for row in view.matrices], odd_layers(view)
    alone = [p for p in rows if [p.module] == odd]
    named = [p for p in rows if p.name == cause.location.partition(" (")[0]]
    return next(iter([*alone, *named, *rows]), None)


def odd_layers(view: View) -> list[str]:
    """Modules whose weights start at an unusual size."""
    low, high = USUAL_GAIN
    rows = [view.parameters[row] for row, gain in view.init_gain.items() if not low < gain < high]
    return list(dict.fromkeys(p.module for p in rows if p.module))


def odd_biases(view: View) -> list[str]:
    """Modules whose biases start far from zero, beside weights that do not."""
    rows = [p for p in view.parameters if p.role == "bias" and p.init_rms > 1 and math.isfinite(p.init_rms)]
    return list(dict.fromkeys(p.module for p in rows if p.module))


def _values(view: View, cause: Cause) -> list[str]:
    """Where few layers are off, those first: the others may be pretrained."""
    layers = odd_layers(view)
    weighted = {view.parameters[row].module for row in view.init_gain}
    few = 0 < len(layers) <= max(1, len(weighted) // 3)
    biased = odd_biases(view)
    biases = ["bias" + (f"@{biased[0]}" if len(biased) == 1 else "")] if biased else []
    return [*biases, *([f"@{layers[0]}"] if few and len(layers) == 1 else []), ""]


def _orthogonal_values(view: View, cause: Cause) -> list[str]:
    """Of a recurrence, the weight that is multiplied again and again must be a matrix."""
    shapes = [p.shape for p in view.parameters if p.name == cause.location]
    return [] if cause.code == "long-recurrence" and any(len(shape) < 2 for shape in shapes) else [""]


REMEDIES = (
    Remedy(
        "reinit-kaiming",
        "weights that start too large or too small, in ReLU networks",
        RISK,
        "reinit-kaiming@layers.3",
        _words(
            'torch.nn.init.kaiming_normal_({weight}, nonlinearity="relu")',
            "Kaiming keeps the scale through ReLU layers.",
            'torch.nn.init.kaiming_normal_({weight}, mode="fan_out", nonlinearity="relu")  # as x @ {weight}',
        ),
        _values,
        has_matrices,
    ),
    Remedy(
        "reinit-xavier",
        "the same for tanh, sigmoid, attention and recurrent networks",
        RISK,
        "reinit-xavier",
        _words(
            "torch.nn.init.xavier_uniform_({weight})",
            "Xavier keeps the scale through linear, tanh and sigmoid layers.",
        ),
        fits=has_matrices,
    ),
    Remedy(
        "reinit-orthogonal",
        "deep or recurrent networks",
        RISK,
        "reinit-orthogonal",
        _words(
            "torch.nn.init.orthogonal_({weight})",
            "Orthogonal matrices change no length; they also suit recurrent weights.",
        ),
        _orthogonal_values,
        has_matrices,
    ),
    Remedy(
        "reinit-lsuv",
        "architectures that no formula fits",
        RISK,
        "reinit-lsuv",
        _words(
            "torch.nn.init.orthogonal_({weight})  # then divide by the std of its output on a batch",
            "LSUV sets every layer's output to variance 1 on real data.",
        ),
        fits=has_modules,
    ),
)
