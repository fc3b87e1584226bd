"""The learning rate and the update rule."""

from __future__ import annotations

import math

import numpy as np

from steadygrad.records import Cause
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.data import summed
from steadygrad.remedies.fitting import can_search, has_no_decay, has_no_warmup
from steadygrad.remedies.numbers import by_hand, good_rate, optimizer_call, other_settings
from steadygrad.view import View


def _rate(view: View, *, lower: bool) -> tuple[float, float] | None:
    """(the run's rate, a better one on the wanted side of it)."""
    found = good_rate(view)
    if found is None:
        return None
    old, new = found
    if not (new < 0.7 * old if lower else new > 1.5 * old):
        new = old / 10 if lower else old * 10
    return old, new


def _rate_line(view: View, *, lower: bool) -> str:
    found = _rate(view, lower=lower)
    if by_hand(view) or found is None:
        return "lr = lr / 10" if lower else "lr = lr * 10"
    old, new = found
    name = optimizer_call(view)
    given = f"lr={new:g}{other_settings(view)}"
    return f"optimizer = torch.optim.{name}(model.parameters(), {given})  # was {old:g}{_expected(view, lower=lower)}"


def _lower_words(view: View, cause: Cause) -> tuple[str, str]:
    return "Smaller steps stay where the loss is still well described by its gradient.", _rate_line(view, lower=True)


def _raise_words(view: View, cause: Cause) -> tuple[str, str]:
    return "The signals are healthy but the weights hardly move.", _rate_line(view, lower=False)


def _expected(view: View, *, lower: bool) -> str:
    """What the proposed rate would do, where it follows from the run's updates and is no mere tenth or tenfold."""
    found = good_rate(view)
    follows = found is not None and _rate(view, lower=lower) == found
    return "; a typical step then changes the weights by about 0.2%" if follows else ""


def _spread(view: View, *, lower: bool, usual: tuple[float, ...]) -> list[str]:
    """The rate that the updates ask for first, then a grid; no two within a factor of two of each other."""
    found = _rate(view, lower=lower)
    asked = [found[0] / found[1] if lower else found[1] / found[0]] if found is not None else []
    factors: list[float] = []
    for factor in (*asked, *usual):
        if 1.3 < factor <= 1e5 and all(not 0.5 < factor / other < 2 for other in factors):
            factors.append(factor)
    if found is None or len(view.streams) > 1 or by_hand(view) or not _is_base(view, found[0]):
        return [f"{'/' if lower else 'x'}{factor:.2g}" for factor in factors]
    return [f"{found[0] / factor if lower else found[0] * factor:.2g}" for factor in factors]


def _is_base(view: View, rate: float) -> bool:
    """Whether the highest rate of the run is the one the optimizer was built with, to which a number would apply."""
    base = view.hyper("max_lr") or view.hyper("initial_lr") or view.hyper("lr")
    return not base or math.isclose(base, rate, rel_tol=0.01)


def _lower_values(view: View, cause: Cause) -> list[str]:
    """Of the misuses of a loss, only a sum in the place of a mean makes steps larger."""
    found = good_rate(view)
    if (cause.code == "loss-misuse" and not summed(cause)) or (not cause.code and found and found[1] > 3 * found[0]):
        return []  # as a last resort not where the weights hardly move
    return _spread(view, lower=True, usual=(10.0, 3.0, 30.0, 100.0))


def _raise_values(view: View, cause: Cause) -> list[str]:
    return _spread(view, lower=False, usual=(10.0, 100.0, 1000.0, 3.0))


def _warmup_words(view: View, cause: Cause) -> tuple[str, str]:
    steps = max(10, min(2000, view.history.steps // 10))
    return (
        "Adaptive optimizers take their largest steps first, when their averages hold few gradients. A ramp lets them "
        "settle.",
        f"lr_t = lr * min(1.0, (t + 1) / {steps})  # in step t, in the place of lr"
        if by_hand(view)
        else f"scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: min(1.0, (t + 1) / {steps}))\n"
        "...\noptimizer.step()\nscheduler.step()",
    )


def _warmup_values(view: View, cause: Cause) -> list[str]:
    steps = view.history.steps
    return [f"{max(10, round(steps * share))}" for share in (0.4, 0.1)]


def _decay_words(view: View, cause: Cause) -> tuple[str, str]:
    steps = max(1, view.history.steps)
    return (
        "A falling rate lets a noisy loss settle.",
        f"lr_t = lr * 0.5 * (1 + math.cos(math.pi * t / {steps}))  # in step t, in the place of lr"
        if by_hand(view)
        else f"scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max={steps})\n"
        "...\noptimizer.step()\nscheduler.step()",
    )


def _constant_words(view: View, cause: Cause) -> tuple[str, str]:
    return (
        "The schedule has taken the rate down to nothing long before the loss was done: it may be stepped once per "
        "batch where it was meant per epoch.",
        "# scheduler.step()  # once per epoch, after the loop over batches, or not at all",
    )


def _constant_values(view: View, cause: Cause) -> list[str]:
    """Only where a schedule took the rate down early, or held it far below the one that the optimizer was given."""
    rates = view.main.lr.values() if view.main is not None else np.zeros(0)
    if len(rates) < 4 or not rates.max() > 0:
        return []
    if 10 * float(rates.max()) < view.hyper("initial_lr"):
        return [""]
    return [""] if float(np.median(rates[len(rates) // 4 :])) < 0.1 * float(rates.max()) else []


def _adaptive_words(view: View, cause: Cause) -> tuple[str, str]:
    return (
        "Adam scales each entry's step by its own gradient, which evens out bad scaling.",
        "optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)",
    )


def _adaptive_values(view: View, cause: Cause) -> list[str]:
    return [] if view.adaptive or by_hand(view) or view.optimizer_type() == "LBFGS" else ["0.001", "0.01", "0.0003"]


def _search_words(view: View, cause: Cause) -> tuple[str, str]:
    return (
        "LBFGS takes steps of a fixed length along directions that hold only nearby. A line search keeps each step at "
        "a length that lowers the loss.",
        'optimizer = torch.optim.LBFGS(model.parameters(), line_search_fn="strong_wolfe")',
    )


REMEDIES = (
    Remedy(
        "lower-lr",
        "a step too big for the curvature: the loss oscillates, diverges, or units die",
        "Too low a rate wastes the run.",
        "lower-lr:/10",
        _lower_words,
        _lower_values,
    ),
    Remedy(
        "raise-lr",
        "weights that hardly move although the gradients are healthy",
        "Raise in steps of 3 to 10 and watch the loss: above the stable rate it diverges.",
        "raise-lr:x10",
        _raise_words,
        _raise_values,
    ),
    Remedy(
        "warmup",
        "adaptive optimizers and attention that are thrown off by their first steps",
        "Too long a ramp wastes steps.",
        "warmup:200",
        _warmup_words,
        _warmup_values,
        has_no_warmup,
    ),
    Remedy(
        "decay-schedule",
        "a loss that falls, then hovers",
        "It does not help a rate that is too high from the start.",
        "decay-schedule:1000",
        _decay_words,
        lambda view, cause: [f"{max(1, view.history.steps)}"],
        has_no_decay,
    ),
    Remedy(
        "constant-lr",
        "a schedule that takes the rate to nothing too early",
        "Without any decay a noisy loss does not settle.",
        "constant-lr",
        _constant_words,
        _constant_values,
    ),
    Remedy(
        "adaptive-optimizer",
        "gradients of very different size from layer to layer, under plain SGD",
        "Needs its own rate; 1e-3 is the usual start.",
        "adaptive-optimizer:0.001",
        _adaptive_words,
        _adaptive_values,
    ),
    Remedy(
        "line-search",
        "LBFGS that overshoots",
        "More evaluations of the closure for each step; the loss must be finite wherever it looks.",
        "line-search",
        _search_words,
        fits=can_search,
    ),
)
