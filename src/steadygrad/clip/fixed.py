"""Clippers with a fixed threshold and no state."""

from __future__ import annotations

import torch
from torch import Tensor

from steadygrad.clip.base import ScalingClipper, at_least_zero
from steadygrad.clip.gradients import Gradients
from steadygrad.errors import InputError


class GlobalNorm(ScalingClipper):
    """Scale all gradients by one factor so that their joint norm is at most ``max_norm``; the direction is kept.

    ``g *= min(1, max_norm / (norm + eps))``: Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural
    networks" (ICML 2013), with the ``eps`` of ``torch.nn.utils.clip_grad_norm_``.

    Args:
        max_norm: the threshold, 0 or more; ``inf`` measures only.
        p: the norm: 2, any other positive number, or ``inf``.
        eps: added to the norm. 0 lands exactly on the bound.
        error_if_nonfinite: raise instead of reporting NaN or Inf.

    Raises:
        InputError: a threshold below 0 or NaN, ``p`` or ``eps`` out of range.

    Example:
        >>> weight = torch.zeros(2, requires_grad=True)
        >>> weight.grad = torch.tensor([3.0, 4.0])
        >>> info = GlobalNorm(1.0, eps=0.0)([weight])
        >>> float(info.norm_before), [round(x, 4) for x in weight.grad.tolist()]
        (5.0, [0.6, 0.8])
    """

    foldable = True

    def __init__(
        self, max_norm: float = 1.0, *, p: float = 2.0, eps: float = 1e-6, error_if_nonfinite: bool = False
    ) -> None:
        super().__init__(error_if_nonfinite=error_if_nonfinite)
        self.max_norm = at_least_zero("max_norm", max_norm)
        self.p = float(p)
        self.eps = float(eps)
        if not self.p > 0:
            raise InputError(f"p must be positive, got {p!r}; 2 is the usual norm, inf the largest entry")
        if not 0 <= self.eps < float("inf"):
            raise InputError(f"eps must be 0 or more and finite, got {eps!r}; 1e-6 is torch's")

    def factors(self, norms: Tensor, total: Tensor, gradients: Gradients, factor: float) -> Tensor:
        """``[]``: the joint norm decides."""
        bound, size = self.max_norm * factor, total + self.eps
        # Written as a choice, 0 / 0 and inf / inf never come up.
        return torch.where(size > bound, bound / size, 1.0)

    def __repr__(self) -> str:
        return f"GlobalNorm({self.max_norm:g}, p={self.p:g}, eps={self.eps:g})"
