"""What a loss is fed: raw outputs, its mean, and targets of the prediction's shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from steadygrad.interventions.report import Report
from steadygrad.interventions.stage import Stage
from steadygrad.records import RemedySpec

#: Functions that a classification loss applies itself, or that take from its input what it needs.
SQUASHING = ("softmax", "log_softmax", "sigmoid", "relu", "tanh")
#: Losses that take logarithms of probabilities.
LIKELIHOODS = ("nll_loss", "kl_div")
TINY = 1e-12


class Logits:
    """Undoes an activation that the loss applies again.

    Where the output of the activation itself reaches the loss, its input is given instead: exact. Where it has been
    reshaped on the way, softmax and sigmoid are inverted, which is as exact as their float32 values are.
    """

    def __init__(self, stage: Stage, report: Report) -> None:
        self._stage, self._report = stage, report
        self._before: dict[int, tuple[str, Tensor, Tensor]] = {}
        self._decided: dict[str, str] = {}
        for name in SQUASHING:
            for holder in (F, torch, Tensor):
                stage.patch(holder, name, self._remembering(name))
        for name in ("cross_entropy", *LIKELIHOODS, "binary_cross_entropy_with_logits"):
            stage.patch(F, name, self._fed(name))
        stage.after_backward(lambda leaves: self._before.clear())

    def _remembering(self, name: str) -> Callable[[Any], Any]:
        def make(original: Any) -> Any:
            def activation(x: Any, *args: Any, **kwargs: Any) -> Any:
                out = original(x, *args, **kwargs)
                if isinstance(x, Tensor) and isinstance(out, Tensor) and out.requires_grad and out is not x:
                    self._before[id(out)] = (name, out, x)
                return out

            return activation

        return make

    def _fed(self, loss: str) -> Callable[[Any], Any]:
        def make(original: Any) -> Any:
            def function(input: Any, *args: Any, **kwargs: Any) -> Any:
                return original(self._raw(loss, input) if isinstance(input, Tensor) else input, *args, **kwargs)

            return function

        return make

    def _raw(self, loss: str, x: Tensor) -> Tensor:
        if loss in LIKELIHOODS:
            return self._normalised(loss, x)
        name, out, before = self._before.get(id(x), ("", x, x))
        if name and out is x:
            self._report.applied(f"{loss} is given the input of {name}")
            return before
        if self._decided.setdefault(loss, self._guess(loss, x)) == "softmax":
            self._report.applied(f"{loss} is given the logarithm of the probabilities")
            return x.clamp_min(TINY).log()
        if self._decided[loss] == "sigmoid":
            self._report.applied(f"{loss} is given the logit of the probabilities")
            return torch.logit(x, eps=1e-7)
        return x

    @staticmethod
    def _guess(loss: str, x: Tensor) -> str:
        """What the values look like: decided once, on the first call."""
        values = x.detach().float()
        unit = bool(((values >= 0) & (values <= 1)).all()) and values.numel() >= 4
        if loss == "cross_entropy" and unit and values.dim() >= 2 and values.shape[1] > 1:
            return "softmax" if bool(((values.sum(1) - 1).abs() < 1e-3).all()) else "sigmoid"
        return "sigmoid" if unit else ""

    def _normalised(self, loss: str, x: Tensor) -> Tensor:
        """These want logarithms of probabilities."""
        if x.dim() < 2:
            return x
        if loss not in self._decided:
            self._decided[loss] = _likelihood(x.detach().float())
        if self._decided[loss] == "log":
            self._report.applied(f"{loss} is given the logarithm of the probabilities")
            name, out, before = self._before.get(id(x), ("", x, x))
            return torch.log_softmax(before, 1) if name == "softmax" and out is x else x.clamp_min(TINY).log()
        if self._decided[loss]:
            self._report.applied(f"{loss} is given log_softmax of the outputs")
            return torch.log_softmax(x, 1)
        return x


def _likelihood(values: Tensor) -> str:
    """What has to be done to what such a loss is fed, by its values: they are logarithms, probabilities, or raw."""
    if bool((torch.logsumexp(values, 1).abs() < 1e-2).all()):
        return ""
    shares = bool((values >= 0).all()) and bool(((values.sum(1) - 1).abs() < 1e-3).all())
    return "log" if shares else "log_softmax"


def loss_on_logits(stage: Stage, spec: RemedySpec, report: Report) -> None:
    """Give the loss raw outputs where it applies (log-)softmax or sigmoid itself."""
    Logits(stage, report)


REDUCED = (
    "cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "mse_loss", "l1_loss",
    "smooth_l1_loss", "huber_loss", "kl_div", "poisson_nll_loss", "gaussian_nll_loss",
)  # fmt: skip


def mean_reduction(stage: Stage, spec: RemedySpec, report: Report) -> None:
    """The mean in place of a sum over the batch."""

    def make(original: Any) -> Any:
        def function(*args: Any, **kwargs: Any) -> Any:
            summed = kwargs.get("reduction") == "sum" or kwargs.get("size_average") is False
            if not summed:
                return original(*args, **kwargs)
            report.applied(f"{original.__name__} takes the mean in place of the sum")
            return original(*args, **{**kwargs, "reduction": "mean", "size_average": None})

        return function

    for name in REDUCED:
        stage.patch(F, name, make)


PAIRED = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")


def match_shapes(stage: Stage, spec: RemedySpec, report: Report) -> None:
    """A target of one axis less is given the prediction's shape, where they would be broadcast to every pair."""

    def loss(original: Any) -> Any:
        def function(input: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
            return original(input, _matched(target, input, report), *args, **kwargs)

        return function

    def difference(original: Any) -> Any:
        def minus(a: Any, b: Any, *args: Any, **kwargs: Any) -> Any:
            if isinstance(a, Tensor) and isinstance(b, Tensor) and not stage.modules:
                a, b = (a, _matched(b, a, report)) if a.requires_grad else (_matched(a, b, report), b)
            return original(a, b, *args, **kwargs)

        return minus

    stage.watch_modules()
    for name in PAIRED:
        stage.patch(F, name, loss)
    for holder, name in ((Tensor, "__sub__"), (torch, "sub"), (Tensor, "sub"), (torch, "subtract")):
        stage.patch(holder, name, difference)


def _matched(target: Any, prediction: Any, report: Report) -> Any:
    if not isinstance(target, Tensor) or not isinstance(prediction, Tensor) or target.shape == prediction.shape:
        return target
    if target.numel() != prediction.numel() or target.numel() < 2 or not prediction.requires_grad:
        return target
    report.applied(f"a target of shape {tuple(target.shape)} is given the prediction's, {tuple(prediction.shape)}")
    return target.reshape(prediction.shape)
