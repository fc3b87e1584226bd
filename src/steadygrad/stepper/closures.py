"""Optimizers that evaluate the loss themselves (L-BFGS): one bad evaluation undoes the whole step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from steadygrad import notices
from steadygrad.errors import NonFiniteError
from steadygrad.guard.copies import copied, finite, optimizer_state, put_all_back, restore_optimizer
from steadygrad.guard.verdict import NONFINITE, NONFINITE_GRADIENT, Limits
from steadygrad.stepper.result import Outcome
from steadygrad.stepper.update import Update, parameters, read

if TYPE_CHECKING:
    from steadygrad.clip import ClipInfo

Closure = Callable[[], Tensor]


class _BadEvaluation(BaseException):
    """Ends the optimizer's step from within. Not an Exception: an optimizer may catch those of its line search."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Evaluations:
    """Evaluates a closure for an optimizer, and keeps what its first evaluation said.

    Args:
        update: clips and decides.
        closure: returns the loss, with or without having called ``backward`` on it.
        limits: above these an evaluation is bad.
    """

    def __init__(self, update: Update, closure: Closure, limits: Limits) -> None:
        self._update, self._closure, self._limits = update, closure, limits
        self.first: tuple[Tensor, ClipInfo] | None = None

    def __call__(self) -> Tensor:
        """One evaluation: gradients in place, clipped."""
        update = self._update
        for optimizer in update.optimizers:
            optimizer.zero_grad()
        with torch.enable_grad():
            loss = self._closure()
            tensors = parameters(update.optimizers)
            if all(p.grad is None for p in tensors):
                loss.backward()  # type: ignore[no-untyped-call]
        info = update.clip.measure(tensors)
        if self.first is None:
            self.first = loss.detach(), info
        # Trial points of a line search may lie far up the slope: only where it starts can be judged by size.
        limits = self._limits if self.first[1] is info else Limits()
        reason = limits.reason(read(info, loss.detach()))
        if reason:
            raise _BadEvaluation(reason)
        update.clip.apply(tensors, info)
        return loss


def step_with_closure(
    update: Update, closure: Closure, limits: Limits, *, error: bool
) -> tuple[Tensor, ClipInfo, Outcome]:
    """Step the only optimizer with a closure; everything is as before where an evaluation or the result is not finite.

    Raises:
        NonFiniteError: where ``error`` is asked for.
    """
    (optimizer,) = update.optimizers
    before = copied([p.detach() for p in parameters([optimizer])]), optimizer_state(optimizer)
    evaluations = Evaluations(update, closure, limits)
    try:
        reason, ended = _run(optimizer, evaluations)
    except BaseException:
        _restore(update, optimizer, *before)
        raise
    assert evaluations.first is not None, "the optimizer stepped without evaluating its closure"
    loss, info = evaluations.first
    if reason:
        notices.tell_skipped(reason, recorded=ended)
        _restore(update, optimizer, *before)
        if error and reason in NONFINITE:
            raise NonFiniteError(f"{reason} while {type(optimizer).__name__} evaluated its closure")
    else:
        update.clip.commit(info)
        update.schedulers.step()
        update.running.keep()
    return loss, info, Outcome(read(info, loss), reason)


def _run(optimizer: Optimizer, evaluations: Evaluations) -> tuple[str, bool]:
    """Why the step is bad, empty if it is not; and whether the optimizer came to its end."""
    try:
        optimizer.step(evaluations)  # type: ignore[arg-type]
    except _BadEvaluation as bad:
        return bad.reason, False
    return "" if finite([p.detach() for p in parameters([optimizer])]) else NONFINITE_GRADIENT, True


def _restore(update: Update, optimizer: Optimizer, values: list[Tensor], state: dict[str, Any]) -> None:
    put_all_back(parameters([optimizer]), values)
    restore_optimizer(optimizer, state)
    update.running.restore()
