"""The contract of every clipper: measure, apply, commit."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from steadygrad import notices
from steadygrad.clip.gradients import Gradients, Parameters, collect, scale, scale_each
from steadygrad.clip.info import ClipInfo
from steadygrad.errors import InputError, NonFiniteError
from steadygrad.wording import listed


class Clipper(ABC):
    """Makes gradients smaller, in place: ``info = clipper(model)`` between ``backward`` and the optimizer's step.

    The call is three phases, which can be made one by one: :meth:`measure` reads the gradients and decides,
    :meth:`apply` scales them, :meth:`commit` adds the step to the clipper's statistics. None of them waits for the
    device. Where any gradient is NaN or Inf, all gradients are left as they are, ``info.non_finite`` is true, and the
    statistics stay as they were: whether to skip the step is for the caller to say.

    Args:
        error_if_nonfinite: raise :class:`steadygrad.NonFiniteError`, which names the parameters, instead. This reads
            the result, so on an accelerator it waits for the device at every step.
    """

    def __init__(self, *, error_if_nonfinite: bool = False) -> None:
        self.error_if_nonfinite = error_if_nonfinite

    @property
    def foldable(self) -> bool:
        """Whether one factor for all gradients says everything, so that an optimizer's kernel can apply it."""
        return False

    @torch.no_grad()
    def __call__(self, parameters: Parameters) -> ClipInfo:
        """Clip the gradients of a module, of tensors, or of ``(name, tensor)`` pairs."""
        gradients = collect(parameters)
        info = self._checked(gradients, 1.0)
        self.announce(gradients, info)
        self._apply(gradients, info)
        self.commit(info)
        return info

    @torch.no_grad()
    def measure(self, parameters: Parameters, *, factor: float = 1.0) -> ClipInfo:
        """Decide, without changing anything.

        Args:
            parameters: a module, tensors, or ``(name, tensor)`` pairs.
            factor: multiplies the threshold, this time.

        Raises:
            NonFiniteError: a gradient is NaN or Inf, and ``error_if_nonfinite`` was asked for.
        """
        return self._checked(collect(parameters), factor)

    def _checked(self, gradients: Gradients, factor: float) -> ClipInfo:
        info = self._measure(gradients, factor)
        if self.error_if_nonfinite:
            bad = info.bad_parameters()
            if bad:
                raise NonFiniteError(
                    f"Gradients must be finite, but those of {listed(bad, 5)} hold NaN or Inf; look at the loss of "
                    f"this batch, or drop error_if_nonfinite to have such steps reported in info.non_finite"
                )
        return info

    @abstractmethod
    def _measure(self, gradients: Gradients, factor: float) -> ClipInfo: ...

    @torch.no_grad()
    def apply(self, parameters: Parameters, info: ClipInfo) -> None:
        """Scale the gradients as :meth:`measure` decided."""
        gradients = collect(parameters)
        self.announce(gradients, info)
        self._apply(gradients, info)

    def announce(self, gradients: Gradients, info: ClipInfo) -> None:
        """Tell observers that these gradients are clipped: by :meth:`apply`, or else in the optimizer's kernel."""
        for tell in notices.clip_measured:
            tell(gradients.parameters, getattr(self, "max_norm", math.nan), info)

    def _apply(self, gradients: Gradients, info: ClipInfo) -> None:
        if info.coefficients is None:
            scale(gradients, info.coefficient)
        else:
            scale_each(gradients, info.coefficients)

    def commit(self, info: ClipInfo) -> None:
        """Add the step to the statistics, unless it was not finite. Most clippers keep none."""
        del info

    def state_dict(self) -> dict[str, Any]:
        """The statistics, to be stored with a checkpoint; empty where there are none."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a stored state."""
        if state:
            raise InputError(f"{type(self).__name__} has no state, but got {sorted(state)}; is it another clipper's?")


class WrappingClipper(Clipper):
    """A clipper that drives another one."""

    def __init__(self, clipper: Clipper, *, error_if_nonfinite: bool = False) -> None:
        if not isinstance(clipper, Clipper):
            raise InputError(f"Expected a clipper such as GlobalNorm(1.0), got {type(clipper).__name__}")
        super().__init__(error_if_nonfinite=error_if_nonfinite or clipper.error_if_nonfinite)
        self.clipper = clipper

    @property
    def foldable(self) -> bool:
        """As the clipper inside."""
        return self.clipper.foldable

    def _measure(self, gradients: Gradients, factor: float) -> ClipInfo:
        return self.clipper._measure(gradients, factor)

    def _apply(self, gradients: Gradients, info: ClipInfo) -> None:
        self.clipper._apply(gradients, info)

    def commit(self, info: ClipInfo) -> None:
        """Commit the clipper inside."""
        self.clipper.commit(info)

    def state_dict(self) -> dict[str, Any]:
        """The state of the clipper inside."""
        return self.clipper.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a stored state."""
        self.clipper.load_state_dict(state)


class ScalingClipper(Clipper):
    """A clipper that multiplies whole tensors by factors which follow from their norms alone."""

    #: The norm that is measured.
    p: float = 2.0

    @abstractmethod
    def factors(self, gradients: Gradients, norms: Tensor, total: Tensor, factor: float) -> Tensor:
        """0-dim, or ``[P]``: what to multiply the gradients by. May be anything where the total is not finite.

        Args:
            gradients: what was measured.
            norms: of each tensor, ``[P]``.
            total: of all together, 0-dim.
            factor: multiplies the threshold.
        """

    def _measure(self, gradients: Gradients, factor: float) -> ClipInfo:
        norms, bad = gradients.norms(self.p)
        return self.decide(gradients, norms, factor, bad)

    def decide(self, gradients: Gradients, norms: Tensor, factor: float = 1.0, bad: Tensor | None = None) -> ClipInfo:
        """The result for gradients of these norms, ``[P]``, whatever the gradients now hold.

        Args:
            gradients: which parameters these are.
            norms: of each gradient.
            factor: multiplies the threshold.
            bad: whether another rank met NaN or Inf, 0-dim.
        """
        total, non_finite = gradients.joint(norms, self.p, bad)
        chosen = torch.where(non_finite, 1.0, self.factors(gradients, norms, total, factor)).to(torch.float32)
        after, clipped = total * chosen, chosen < 1
        if chosen.dim():
            after, clipped = gradients.joint(norms * chosen, self.p, clipped.any())
            clipped = clipped & ~non_finite
        return ClipInfo(
            norm_before=total,
            norm_after=after,
            coefficient=chosen if chosen.dim() == 0 else ratio(after, total),
            clipped=clipped,
            non_finite=non_finite,
            norms=norms,
            coefficients=chosen if chosen.dim() else None,
            _names=gradients.naming(),
        )


def ratio(after: Tensor, before: Tensor) -> Tensor:
    """``after / before`` as a 0-dim float32; 1 where that says nothing."""
    return torch.where(torch.isfinite(before) & (before > 0), after / before, 1.0).to(torch.float32)


def bounded(size: Tensor, bound: Tensor | float) -> Tensor:
    """``min(1, bound / size)``, written as a choice, so that 0 / 0 and inf / inf do not become NaN."""
    return torch.where(size > bound, bound / size, 1.0)


def number(name: str, value: float, *, low: float, high: float = math.inf, what: str = "") -> float:
    """Check an option: ``low <= value < high``."""
    found = float(value)
    if not low <= found < high:
        raise InputError(f"{name} must be at least {low:g} and below {high:g}, got {value!r}{what and '; ' + what}")
    return found


def at_least_zero(name: str, value: float) -> float:
    """Check a threshold: 0 or more; ``inf`` measures only."""
    found = float(value)
    if not found >= 0:
        why = "a negative one would turn gradients around" if found < 0 else "look at where it was computed"
        raise InputError(f"{name} must be 0 or more (inf: measure only), got {value!r}; {why}")
    return found
