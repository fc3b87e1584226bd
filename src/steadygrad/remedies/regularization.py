"""Pulling weights towards zero, more or less."""

from __future__ import annotations

from steadygrad.records import Cause
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.numbers import optimizer_call
from steadygrad.view import View


def _l2_words(view: View, cause: Cause) -> tuple[str, str]:
    return (
        "Keeps weights from growing without bound.",
        "optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-2)",
    )


def _l1_words(view: View, cause: Cause) -> tuple[str, str]:
    return "Pushes small weights to zero.", "loss = loss + 1e-5 * sum(p.abs().sum() for p in model.parameters())"


def _largest(view: View) -> float:
    return max((p.weight_decay for p in view.parameters), default=0.0)


def _decay_words(view: View, cause: Cause) -> tuple[str, str]:
    largest = _largest(view) if view.parameters else 0.01
    if largest <= 0 and view.penalised:
        return (
            "The loss holds a penalty that pulls the weights to zero harder than the rest pulls them anywhere else.",
            "loss = fit + 0.01 * coefficient * penalty  # a hundredth of the penalty's present share",
        )
    return (
        "The decay pulls the weights to zero harder than the gradient pulls them anywhere else.",
        f"optimizer = torch.optim.{optimizer_call(view)}(model.parameters(), lr=lr, weight_decay={largest / 100:g})"
        f"  # was {largest:g}",
    )


def _decay_values(view: View, cause: Cause) -> list[str]:
    largest = _largest(view)
    if largest <= 0:  # a penalty written into the loss: its coefficient is unknown
        return ["/1e+04", "0", "/100"] if view.penalised else []
    return [f"{largest / 1e4:.2g}", "0", f"{largest / 100:.2g}"]


REMEDIES = (
    Remedy(
        "l2-regularization",
        "weights that grow without bound",
        "Too much stops learning.",
        "l2-regularization:0.0001",
        _l2_words,
        lambda view, cause: ["0.0001", "0.01"],
    ),
    Remedy(
        "l1-regularization",
        "weights that should be sparse",
        "Not smooth at zero.",
        "l1-regularization:1e-5",
        _l1_words,
        lambda view, cause: ["1e-05", "0.001"],
    ),
    Remedy(
        "reduce-weight-decay",
        "weights that shrink although the loss does not",
        "Less regularisation: watch the validation loss.",
        "reduce-weight-decay:0.0001",
        _decay_words,
        _decay_values,
    ),
)
