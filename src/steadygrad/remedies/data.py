"""What goes in, and what the loss is fed."""

from __future__ import annotations

from steadygrad.records import Cause
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.fitting import input_is_off
from steadygrad.view import View


def _standardize_words(view: View, cause: Cause) -> tuple[str, str]:
    batch = view.batch
    note = f"  # here: mean {batch['input_mean']:.3g}, std {batch['input_std']:.3g}" if "input_mean" in batch else ""
    return (
        "Layers and learning rates are made for inputs of mean 0 and size 1. Use the training set's statistics "
        "everywhere.",
        f"mean, std = x_train.mean(0), x_train.std(0) + 1e-8{note}\nx_train = (x_train - mean) / std",
    )


def _standardize_values(view: View, cause: Cause) -> list[str]:
    return ["", "sample"] if any(site.kind == "recurrent" for site in view.sites) else [""]


def _logits_words(view: View, cause: Cause) -> tuple[str, str]:
    return (
        "The loss applies (log-)softmax or sigmoid itself: give it the raw outputs. Twice applied, the gradient all "
        "but disappears.",
        "loss = torch.nn.functional.cross_entropy(logits, target)  # no softmax before it\n"
        "# two classes: binary_cross_entropy_with_logits(logits, target)  # no sigmoid before it",
    )


def summed(cause: Cause) -> bool:
    """Whether the loss was found to be a sum over the batch."""
    return any("summed" in e for e in cause.evidence)


def broadcast(cause: Cause) -> bool:
    """Whether prediction and target were found to be broadcast to every pair."""
    return any("broadcast" in e for e in cause.evidence)


def _logits_values(view: View, cause: Cause) -> list[str]:
    return [] if summed(cause) or broadcast(cause) else [""]


def _mean_words(view: View, cause: Cause) -> tuple[str, str]:
    return (
        "The mean keeps gradient and rate independent of the batch size.",
        'criterion = torch.nn.MSELoss(reduction="mean")',
    )


def _mean_values(view: View, cause: Cause) -> list[str]:
    return [""] if any(call.get("reduction") == "sum" for call in view.loss_calls) else []


def _shape_words(view: View, cause: Cause) -> tuple[str, str]:
    return (
        "Prediction and target must have the same shape; else every prediction is compared with every target.",
        "loss = criterion(prediction, target.view_as(prediction))",
    )


REMEDIES = (
    Remedy(
        "standardize-input",
        "inputs far from mean 0 and size 1, or features of very different size",
        "Use the same mean and std at evaluation.",
        "standardize-input",
        _standardize_words,
        _standardize_values,
        input_is_off,
    ),
    Remedy(
        "loss-on-logits",
        "probabilities given to a loss that wants logits, or the reverse",
        "Apply softmax or sigmoid by hand at prediction time only.",
        "loss-on-logits",
        _logits_words,
        _logits_values,
        changes_loss_scale=True,
    ),
    Remedy(
        "mean-reduction",
        "a loss summed over the batch, with a rate made for its mean",
        "Retune the rate.",
        "mean-reduction",
        _mean_words,
        _mean_values,
        changes_loss_scale=True,
    ),
    Remedy(
        "match-shapes",
        "a prediction of shape (N, 1) compared with a target of shape (N,)",
        "None where both hold one value per sample.",
        "match-shapes",
        _shape_words,
        lambda view, cause: [""] if broadcast(cause) else [],
    ),
)
