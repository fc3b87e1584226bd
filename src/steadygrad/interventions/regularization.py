"""Pulling weights towards zero: more of it, or less."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from steadygrad.frames import place, user_frame
from steadygrad.interventions.rate import Group, HeldBack
from steadygrad.interventions.report import Report
from steadygrad.interventions.stage import Stage, parameters_of
from steadygrad.records import RemedySpec
from steadygrad.values import positive, rate


def reduce_weight_decay(stage: Stage, spec: RemedySpec, report: Report) -> None:
    """Less weight decay in every group."""
    wanted = rate(spec, "/100") if spec.value != "0" else None

    def change(optimizer: Optimizer, group: Group, step: int) -> dict[str, Any]:
        own = float(group.get("weight_decay") or 0.0)
        if own <= 0:
            return {}
        new = own * wanted.factor(own) if wanted is not None else 0.0
        report.applied(f"weight decay {own:g} -> {new:g} on {type(optimizer).__name__}")
        return {"weight_decay": new}

    HeldBack(stage, change)
    if wanted is None or wanted.relative:
        _reduce_penalty(stage, report, wanted.value if wanted is not None else 0.0)


#: How a penalty on a weight is written by hand.
PENALTIES = ("pow", "__pow__", "square", "norm", "abs")


def _reduce_penalty(stage: Stage, report: Report, factor: float) -> None:
    """Scale what the user's code makes of a weight itself, outside of every forward pass: a penalty in the loss.

    Of vectors, only those count that are treated on the same line as a matrix: a loop over all parameters.
    """

    inside = [False]  # some of these call one another
    lines: set[str] = set()

    def penalised(w: Tensor) -> bool:
        if inside[0] or stage.modules or not torch.is_grad_enabled() or not stage.here():
            return False
        line = place(user_frame(3))
        if w.dim() >= 2:
            lines.add(line)
        return line in lines

    def make(original: Any) -> Any:
        def function(w: Any, *args: Any, **kwargs: Any) -> Any:
            if not isinstance(w, nn.Parameter) or not w.requires_grad or not penalised(w):
                return original(w, *args, **kwargs)
            report.applied(f"the penalty on the weights is multiplied by {factor:g}")
            inside[0] = True
            try:
                return factor * original(w, *args, **kwargs)
            finally:
                inside[0] = False

        return function

    stage.watch_modules()
    for name in PENALTIES:
        for holder in (Tensor, torch):
            stage.patch(holder, name, make)
    for name in ("norm", "vector_norm"):
        stage.patch(torch.linalg, name, make)


def _penalty(stage: Stage, report: Report, words: str, slope: Callable[[Tensor], Tensor]) -> None:
    """Add a penalty's slope to the gradient of every matrix: the loss itself stays comparable."""

    @torch.no_grad()
    def add(optimizer: Optimizer) -> None:
        report.applied(words)
        for parameter in parameters_of(optimizer):
            if parameter.grad is not None and parameter.dim() >= 2 and parameter.grad.layout == torch.strided:
                parameter.grad.add_(slope(parameter))

    stage.before_step(add)


def l2_regularization(stage: Stage, spec: RemedySpec, report: Report) -> None:
    """The slope of ``value / 2 * sum(w**2)``."""
    size = positive(spec, 1e-4)
    _penalty(stage, report, f"an L2 penalty of {size:g} on every matrix", lambda w: size * w)


def l1_regularization(stage: Stage, spec: RemedySpec, report: Report) -> None:
    """The slope of ``value * sum(|w|)``."""
    size = positive(spec, 1e-5)
    _penalty(stage, report, f"an L1 penalty of {size:g} on every matrix", lambda w: size * w.sign())
