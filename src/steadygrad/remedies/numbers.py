"""Numbers for remedies, taken from the run itself."""

from __future__ import annotations

import math

import numpy as np

from steadygrad.history import Array
from steadygrad.view import View


def good_threshold(view: View) -> tuple[float, float] | None:
    """(clip threshold, share of steps it would have clipped): the median of the gradient norms before any trouble.

    Usual gradients pass nearly unchanged. A threshold far above does nothing; one far below scales every step down and
    slows learning. None where fewer than three norms are known, or the trouble began before so many.
    """
    if view.main is None:
        return None
    values = view.main.grad_norm.values()
    values = values[np.isfinite(values) & (values > 0)]
    calm = _calm(values)
    if len(calm) < 3:
        return None
    threshold = round_to(float(np.median(calm)), 2)
    return threshold, float(np.mean(values > threshold))


def _calm(norms: Array) -> Array:
    """The norms before they rose for good: the first third of those that end tenfold above it, or all of them.

    Where even the usual one of these is a hundred times the first, they rose at once, and where it is a thousandth of
    it, they collapsed: then those before that.
    """
    if len(norms) < 3:
        return norms
    third = norms[: max(3, len(norms) // 3)]
    calm = third if norms[-1] > 10 * np.median(third) else norms
    usual, first = float(np.median(calm)), float(calm[0])
    if usual > 100 * first:
        return calm[: int(np.argmax(calm > 100 * first))]
    if usual < first / 1000:
        return calm[: int(np.argmax(calm < first / 1000))]
    return calm


def good_rate(view: View) -> tuple[float, float] | None:
    """(current rate, a rate at which a typical step changes the weights by about 0.1-0.3% of their norm)."""
    stream, ratio = view.main, view.matrix_ratio
    ratio = ratio[np.isfinite(ratio) & (ratio > 0)]
    if stream is None or not len(ratio) or not len(stream.lr.values()):
        return None
    rate = float(stream.lr.values().max())
    hit = float(np.median(ratio[: max(2, len(ratio) // 3)]))
    found = round_to(rate * min(1e4, max(1e-4, 2e-3 / hit)), 1)
    return (rate, found) if found > 0 else None


def steps_are_large(view: View) -> bool:
    """Whether even typical steps change the weights by far more than the usual 0.1%: then the rate comes first."""
    ratio = view.matrix_ratio[np.isfinite(view.matrix_ratio)]
    return len(ratio) > 0 and float(np.median(ratio)) > 0.01


def round_to(value: float, digits: int) -> float:
    """Round to significant digits."""
    if value == 0 or not math.isfinite(value):
        return value
    return float(f"{value:.{digits}g}")


def by_hand(view: View) -> bool:
    """Whether the script updates its weights itself."""
    return view.optimizer_type() == "manual update"


def optimizer_call(view: View) -> str:
    """The optimizer's class name as a user writes it."""
    return (not by_hand(view) and view.optimizer_type()) or "SGD"


def other_settings(view: View) -> str:
    """The optimizer's other settings as keyword arguments, so that a pasted line loses none of them."""
    given = [(key, view.hyper(key)) for key in ("momentum", "weight_decay")]
    return "".join(f", {key}={value:g}" for key, value in given if value)


def model_of(view: View, location: str = "") -> str:
    """The variable of the model that a place lies in, or else of the one that the main optimizer trains."""
    known = {p.model: p for p in view.parameters if p.model}
    held = [model for model in known if location == model or location.startswith(f"{model}.")]
    index = view.main.index if view.main is not None else None
    trained = {p.model for p in view.parameters if p.optimizer == index}
    return max(held, key=len) if held else trained.pop() or "model" if len(trained) == 1 else "model"


def first_layer(name: str, model: str = "model") -> str:
    """``model.<path>`` for a parameter or module name, indexable where the path holds numbers."""
    path = model
    for part in [p for p in name.split(" ", maxsplit=1)[0].split(":", maxsplit=1)[0].split(".") if p]:
        path += f"[{part}]" if part.isdigit() else f".{part}"
    return path


def path_to(view: View, name: str) -> str:
    """How code reaches a parameter or module, whichever model it belongs to."""
    model = model_of(view, name)
    return first_layer(name.removeprefix(model) if name.startswith((f"{model}.", f"{model} ")) else name, model)


def high_threshold(view: View) -> float | None:
    """A clip threshold that the run's largest usual gradients still pass: the 90% quantile of its norms."""
    values = view.main.grad_norm.values() if view.main is not None else np.zeros(0)
    values = values[np.isfinite(values) & (values > 0)]
    return round_to(float(np.quantile(values, 0.9)), 2) if len(values) >= 3 else None
