"""What is known about a step before its update, and when that makes it a bad one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from steadygrad.guard.snapshots import Subject

NONFINITE_LOSS = "non-finite loss"
NONFINITE_GRADIENT = "non-finite gradient"
LOSS_SPIKE = "loss spike"
GRADIENT_SPIKE = "gradient spike"
#: Not finite because a GradScaler's scale was too large: part of how it finds its scale, so nothing to worry about.
OVERFLOW = "loss scale overflow"
#: Reasons that no threshold can accept.
NONFINITE = (NONFINITE_LOSS, NONFINITE_GRADIENT)


@dataclass(frozen=True, slots=True)
class Found:
    """A step's loss and gradient norm, before anything is updated. ``loss`` is None where no loss was given."""

    norm: float
    loss: float | None = None
    non_finite: bool = False  # a gradient is NaN or Inf


@dataclass(frozen=True, slots=True)
class Limits:
    """Above these a step is bad. Infinite: only non-finite steps are.

    Example:
        >>> Limits(loss=5.0).reason(Found(norm=1.0, loss=7.0))
        'loss spike'
        >>> Limits().reason(Found(norm=1.0, loss=7.0))
        ''
    """

    loss: float = math.inf
    norm: float = math.inf

    def reason(self, found: Found) -> str:
        """Why the step must not be taken; an empty string when it may."""
        if found.loss is not None and not math.isfinite(found.loss):
            return NONFINITE_LOSS
        if found.non_finite or math.isnan(found.norm):
            return NONFINITE_GRADIENT
        if found.loss is not None and found.loss > self.loss:
            return LOSS_SPIKE
        return GRADIENT_SPIKE if found.norm > self.norm else ""


def blamed(reason: str, scale: float) -> str:
    """Tell an overflow, which a smaller loss scale may cure, from a gradient that is not finite by itself.

    >>> blamed(NONFINITE_GRADIENT, 65536.0), blamed(NONFINITE_GRADIENT, 1.0), blamed(NONFINITE_LOSS, 65536.0)
    ('loss scale overflow', 'non-finite gradient', 'non-finite loss')
    """
    return OVERFLOW if reason == NONFINITE_GRADIENT and scale > 1 else reason


@dataclass(frozen=True, slots=True)
class Damping:
    """A gentler step: the rate times ``lr``, and the gradient's norm at most ``norm``."""

    lr: float
    norm: float


class Judge(Protocol):
    """What a stepper asks of a guard."""

    def bind(self, subject: Subject) -> None:
        """Be told what a snapshot has to cover."""

    def limits(self) -> Limits:
        """Above these the coming step is bad."""

    def damping(self) -> Damping | None:
        """How much gentler the coming step is to be."""

    def observe(self, found: Found, reason: str, batch: Any) -> bool:
        """Take note of a step, skipped where there is a ``reason``. Whether it went back to an earlier state."""

    def state_dict(self) -> dict[str, Any]:
        """Everything, to be stored with a checkpoint."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a stored state."""
