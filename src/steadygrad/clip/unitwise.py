"""Clipping by unit, relative to the weights.

Shapes legend: P = parameters that have a gradient, U = units (output rows, filters) of one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from steadygrad.clip.base import Clipper, at_least_zero, number, ratio
from steadygrad.clip.gradients import Gradients, multiply
from steadygrad.clip.info import ClipInfo
from steadygrad.clip.norms import joint, norms, on_host, wide
from steadygrad.clip.sharding import is_dtensor, local_part, whole_units
from steadygrad.errors import InputError

#: A gradient is never divided by less than this.
SMALLEST = 1e-6


@dataclass(frozen=True)
class _Units:
    """The units of one parameter: which tensor, the factor of each, ``[U]``, and this rank's norm after it, 0-dim."""

    index: int
    factors: Tensor
    norm_after: Tensor


class AdaptiveUnit(Clipper):
    """Keep the gradient of each unit small relative to the unit's weights (AGC).

    With ``bound = scale * max(|w|, eps)``, ``g *= bound / |g|`` where ``|g| > bound``, for each output row or filter
    (whole tensor where there is one dimension or none): Brock, De, Smith, Simonyan, "High-performance large-scale image
    recognition without normalization" (ICML 2021). Made for networks without normalisation; the paper leaves the last
    linear layer out.

    Args:
        scale: the largest ratio of gradient to weight, 0 or more; ``inf`` measures only. The paper uses 0.01 for large
            batches and up to 0.16 for small ones.
        eps: weights count as at least this, so that units that start at zero can learn.
        exclude: parameter names, shell patterns allowed (``"head.*"``), that are left alone. Needs a module or
            ``(name, tensor)`` pairs.
        error_if_nonfinite: raise instead of reporting NaN or Inf.

    Raises:
        InputError: an option out of range; ``exclude`` with parameters that have no names.

    Example:
        >>> weight = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
        >>> weight.grad = torch.tensor([[1.0, 0.0], [1e-6, 0.0]])
        >>> info = AdaptiveUnit(0.01)([weight])
        >>> [[round(x, 7) for x in row] for row in weight.grad.tolist()]
        [[0.05, 0.0], [1e-06, 0.0]]
    """

    def __init__(
        self,
        scale: float = 0.01,
        *,
        eps: float = 1e-3,
        exclude: Sequence[str] = (),
        error_if_nonfinite: bool = False,
    ) -> None:
        super().__init__(error_if_nonfinite=error_if_nonfinite)
        self.scale = at_least_zero("scale", scale)
        self.eps = number("eps", eps, low=0.0, what="0.001 is the paper's")
        self.exclude = (exclude,) if isinstance(exclude, str) else tuple(exclude)

    def _measure(self, gradients: Gradients, factor: float) -> ClipInfo:
        if gradients.by_hand:
            raise InputError(
                "AdaptiveUnit needs whole units, but parameters cut by hand do not say where; use DTensor parameters"
            )
        each, bad = gradients.norms()
        total, non_finite = gradients.joint(each, flag=bad)
        plan = self._decided(gradients, non_finite, factor)
        after, flag = gradients.over_ranks(_norms_after(gradients, each, plan), flag=_any_clipped(plan, non_finite))
        norm_after, clipped = gradients.joint(after, flag=flag)
        clipped = clipped & ~non_finite
        norm_after = torch.where(clipped, norm_after, total)
        return ClipInfo(
            norm_before=total,
            norm_after=norm_after,
            coefficient=ratio(norm_after, total),
            clipped=clipped,
            non_finite=non_finite,
            norms=each,
            _names=gradients.names,
            _plan=plan,
        )

    def _decided(self, gradients: Gradients, non_finite: Tensor, factor: float) -> list[_Units]:
        """The factors of each included parameter's units."""
        chosen = self._included(gradients)
        mine = [_unit_squares(gradients, i) for i in chosen]
        plan = []
        for i, own, whole in zip(chosen, mine, self._whole(gradients, chosen, mine), strict=True):
            sizes, weights = whole.sqrt().unbind(1)
            bound = self.scale * factor * weights.clamp_min(self.eps)
            too_large = (sizes > bound) & ~non_finite.to(sizes.device)
            factors = torch.where(too_large, bound / sizes.clamp_min(SMALLEST), 1.0)
            plan.append(_Units(i, factors.to(torch.float32), joint(own[:, 0].sqrt() * factors)))
        return plan

    def _whole(self, gradients: Gradients, chosen: Sequence[int], mine: list[Tensor]) -> list[Tensor]:
        if gradients.layouts is None:
            return mine
        layouts = [gradients.layouts[i] for i in chosen]
        return whole_units(mine, layouts, [gradients.parameters[i].dim() > 1 for i in chosen])

    def _included(self, gradients: Gradients) -> Sequence[int]:
        if not self.exclude:
            return range(len(gradients.tensors))
        if not gradients.named:
            raise InputError(
                f"exclude={list(self.exclude)} goes by name, but the parameters came without names; "
                f"pass the model or model.named_parameters()"
            )
        kept = [not any(fnmatchcase(name, pattern) for pattern in self.exclude) for name in gradients.names()]
        return [i for i, keep in enumerate(kept) if keep]

    def _apply(self, gradients: Gradients, info: ClipInfo) -> None:
        if info.clipped.device.type == "cpu" and not on_host(info.clipped):
            return
        plan: list[_Units] = info._plan
        for units in plan:
            tensor = gradients.tensors[units.index]
            shape = [-1] + [1] * (tensor.dim() - 1) if tensor.dim() > 1 else []
            multiply(tensor, units.factors.view(shape))


def _norms_after(gradients: Gradients, each: Tensor, plan: list[_Units]) -> Tensor:
    """Norms after the clip, ``[P]``, of this rank's parts; ``each`` are those before it, over all ranks."""
    local = norms(gradients.tensors, groups=gradients.groups) if gradients.exchanges else each.clone()
    for units in plan:
        local[units.index] = units.norm_after
    return local


def _any_clipped(plan: list[_Units], non_finite: Tensor) -> Tensor:
    smallest = [units.factors.amin().to(non_finite.device) for units in plan if len(units.factors)]
    return (torch.stack(smallest) < 1).any() if smallest else torch.zeros_like(non_finite)


def _unit_squares(gradients: Gradients, index: int) -> Tensor:
    """Sums of squares of each unit's gradient and weights, ``[U, 2]``; of this rank's part."""
    return torch.stack([unit_norms(gradients.tensors[index]), unit_norms(_weights(gradients, index))], dim=1).square()


def _weights(gradients: Gradients, index: int) -> Tensor:
    """The weights that a gradient's units belong to: for a sparse gradient, the rows it holds."""
    parameter = gradients.parameters[index].detach()
    if is_dtensor(parameter):
        parameter = local_part(parameter)[1]
    grad = gradients.parameters[index].grad
    if grad is not None and grad.layout == torch.sparse_coo:
        parameter = parameter[tuple(grad.indices())]
    return torch.view_as_real(parameter) if parameter.is_complex() else parameter


def unit_norms(tensor: Tensor) -> Tensor:
    """Norm of each unit, ``[U]``: of each row along the first dimension, of the whole where there is only one."""
    rows = tensor.flatten(1) if tensor.dim() > 1 else tensor.reshape(1, -1)
    everywhere = wide(tensor.device)
    if tensor.device.type != "cpu" or tensor.dtype == torch.float64:
        return _row_norms(rows, everywhere)
    found = _row_norms(rows, torch.float32)
    overflow = not on_host(torch.isfinite(found).all())  # float32 squares overflow from 2e19 on
    return _row_norms(rows, everywhere) if overflow else found.to(everywhere)


def _row_norms(rows: Tensor, accumulate: torch.dtype) -> Tensor:
    found: Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=accumulate)
    return found
