"""Clippers with a fixed threshold and no statistics.

Shapes legend: P = parameters that have a gradient.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from steadygrad.clip.base import Clipper, ScalingClipper, at_least_zero, bounded, number, ratio
from steadygrad.clip.gradients import Gradients
from steadygrad.clip.info import ClipInfo
from steadygrad.clip.norms import joint, on_host
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
        self.eps = number("eps", eps, low=0.0, what="1e-6 is torch's")
        if not self.p > 0:
            raise InputError(f"p must be positive, got {p!r}; 2 is the usual norm, inf the largest entry")

    def decide(self, gradients: Gradients, norms: Tensor, factor: float = 1.0, bad: Tensor | None = None) -> ClipInfo:
        """As of every scaling clipper. On the CPU with plain numbers: ten operations on 0-dim tensors cost more."""
        over_ranks = bad is not None or gradients.stages is not None
        if norms.device.type != "cpu" or over_ranks or type(self) is not GlobalNorm:
            return super().decide(gradients, norms, factor, bad)
        total, bound = joint(norms, self.p), self.max_norm * factor
        size = total.item()
        coefficient = _number(bound / (size + self.eps) if bound < size + self.eps < math.inf else 1.0, torch.float32)
        chosen = coefficient.item()  # as float32 has it
        return ClipInfo(
            norm_before=total,
            norm_after=_number(size * chosen, norms.dtype),
            coefficient=coefficient,
            clipped=_number(chosen < 1, torch.bool),
            non_finite=_number(not math.isfinite(size), torch.bool),
            norms=norms,
            _names=gradients.naming(),
        )

    def factors(self, gradients: Gradients, norms: Tensor, total: Tensor, factor: float) -> Tensor:
        """``[]``: the joint norm decides."""
        return bounded(total + self.eps, self.max_norm * factor)


class PerTensorNorm(ScalingClipper):
    """Scale each gradient so that its own norm is at most ``max_norm``; large tensors no longer drown small ones.

    ``g_i *= min(1, max_norm / norm_i)``: ``clipnorm`` of Keras. The direction of the whole gradient changes.

    Args:
        max_norm: the threshold of each tensor, 0 or more; ``inf`` measures only.
        p: the norm: 2, any other positive number, or ``inf``.
        error_if_nonfinite: raise instead of reporting NaN or Inf.

    Raises:
        InputError: a threshold below 0 or NaN, or ``p`` that is not positive.

    Example:
        >>> weight, bias = torch.zeros(2, requires_grad=True), torch.zeros(1, requires_grad=True)
        >>> weight.grad, bias.grad = torch.tensor([30.0, 40.0]), torch.tensor([0.5])
        >>> info = PerTensorNorm(1.0)([weight, bias])
        >>> [round(x, 4) for x in weight.grad.tolist()], bias.grad.tolist()
        ([0.6, 0.8], [0.5])
    """

    def __init__(self, max_norm: float = 1.0, *, p: float = 2.0, error_if_nonfinite: bool = False) -> None:
        super().__init__(error_if_nonfinite=error_if_nonfinite)
        self.max_norm = at_least_zero("max_norm", max_norm)
        self.p = float(p)
        if not self.p > 0:
            raise InputError(f"p must be positive, got {p!r}; 2 is the usual norm, inf the largest entry")

    def factors(self, gradients: Gradients, norms: Tensor, total: Tensor, factor: float) -> Tensor:
        """``[P]``: each by its own norm."""
        return bounded(norms, self.max_norm * factor)


class BlockRMS(ScalingClipper):
    """Scale each gradient so that the root mean square of its entries is at most ``max_rms``, whatever its size.

    ``g_i /= max(1, rms_i / max_rms)``: ``optax.clip_by_block_rms``; the clipping of Adafactor (Shazeer and Stern, ICML
    2018), applied to gradients.

    Args:
        max_rms: the threshold, 0 or more; ``inf`` measures only.
        error_if_nonfinite: raise instead of reporting NaN or Inf.

    Raises:
        InputError: a threshold below 0 or NaN.

    Example:
        >>> weight = torch.zeros(4, requires_grad=True)
        >>> weight.grad = torch.full((4,), 3.0)
        >>> info = BlockRMS(1.0)([weight])
        >>> weight.grad.tolist()
        [1.0, 1.0, 1.0, 1.0]
    """

    def __init__(self, max_rms: float = 1.0, *, error_if_nonfinite: bool = False) -> None:
        super().__init__(error_if_nonfinite=error_if_nonfinite)
        self.max_rms = at_least_zero("max_rms", max_rms)

    def factors(self, gradients: Gradients, norms: Tensor, total: Tensor, factor: float) -> Tensor:
        """``[P]``: each by its norm, relative to its size."""
        roots = gradients.sizes().clamp_min(1.0).sqrt().to(norms.device, norms.dtype, non_blocking=True)
        return bounded(norms, roots * (self.max_rms * factor))


class Value(Clipper):
    """Limit every entry to ``[-limit, limit]``. The direction changes.

    ``g = min(max(g, -limit), limit)``: ``torch.nn.utils.clip_grad_value_``. Of complex gradients the real and the
    imaginary part each. Unlike torch's, it does not turn an infinite gradient into an ordinary one.

    Args:
        limit: the threshold, 0 or more; ``inf`` measures only.
        error_if_nonfinite: raise instead of reporting NaN or Inf.

    Raises:
        InputError: a threshold below 0 or NaN.

    Example:
        >>> weight = torch.zeros(3, requires_grad=True)
        >>> weight.grad = torch.tensor([0.5, 4.0, -4.0])
        >>> info = Value(1.0)([weight])
        >>> weight.grad.tolist(), float(info.norm_after)
        ([0.5, 1.0, -1.0], 1.5)
    """

    def __init__(self, limit: float = 1.0, *, error_if_nonfinite: bool = False) -> None:
        super().__init__(error_if_nonfinite=error_if_nonfinite)
        self.limit = at_least_zero("limit", limit)

    def _measure(self, gradients: Gradients, factor: float) -> ClipInfo:
        each, bad = gradients.norms()
        total, non_finite = gradients.joint(each, flag=bad)
        largest, _ = gradients.joint(gradients.norms(math.inf)[0], math.inf)
        limit = torch.where(non_finite, math.inf, largest.new_full((), self.limit * factor))
        return ClipInfo(
            norm_before=total,
            norm_after=torch.full_like(total, math.nan),
            coefficient=torch.full_like(total, math.nan, dtype=torch.float32),
            clipped=largest > limit,
            non_finite=non_finite,
            norms=each,
            _names=gradients.naming(),
            _plan=limit,
        )

    def _apply(self, gradients: Gradients, info: ClipInfo) -> None:
        limit: Tensor = info._plan
        after = info.norm_before
        if limit.device.type != "cpu" or on_host(info.clipped):
            for tensor in gradients.tensors:
                bound = limit.to(tensor)
                torch.clamp(tensor, -bound, bound, out=tensor)
            after, _ = gradients.joint(gradients.norms()[0])
        info.norm_after.copy_(after)
        info.coefficient.copy_(ratio(after, info.norm_before))


def _number(value: float, dtype: torch.dtype) -> Tensor:
    return torch.scalar_tensor(value, dtype=dtype, device="cpu")
