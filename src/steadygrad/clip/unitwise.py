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
from steadygrad.clip.norms import norms, on_host, wide
from steadygrad.clip.sharding import is_dtensor, local_part, whole_units
from steadygrad.errors import InputError

#: A gradient is never divided by less than this.
SMALLEST = 1e-6


@dataclass(frozen=True)
class _Plan:
    """What to do: which parameters, how many units each has, and of all units together, ``[sum of U]``, the factor and
    the sum of squares after it (of this rank's part)."""

    members: Sequence[int]
    counts: list[int]
    factors: Tensor
    squares_after: Tensor


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
        local = _norms_after(gradients, each, plan)
        after, flag = gradients.over_ranks(local, flag=(plan.factors < 1).any())
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
            _names=gradients.naming(),
            _plan=plan,
        )

    def _decided(self, gradients: Gradients, non_finite: Tensor, factor: float) -> _Plan:
        """The factors of each included parameter's units."""
        members = self._included(gradients)
        if not members:
            return _Plan(members, [], non_finite.new_ones(0, dtype=torch.float32), non_finite.new_zeros(0))
        rows = [gradients.parameters[i].dim() > 1 for i in members]
        sizes, counts = _all_units([gradients.tensors[i] for i in members], rows, non_finite.device)
        weights, _ = _all_units([_weights(gradients, i) for i in members], rows, non_finite.device)
        own = sizes.square()
        if gradients.layouts is not None:
            squares = torch.split(torch.stack([own, weights.square()], dim=1), counts)
            whole = whole_units(squares, [gradients.layouts[i] for i in members], rows)
            sizes, weights = torch.cat(whole).sqrt().unbind(1)
        bound = self.scale * factor * weights.clamp_min(self.eps)
        too_large = (sizes > bound) & ~non_finite
        factors = torch.where(too_large, bound / sizes.clamp_min(SMALLEST), 1.0)
        return _Plan(members, counts, factors.to(torch.float32), own * factors.square())

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
        plan: _Plan = info._plan
        for i, factors in zip(plan.members, torch.split(plan.factors, plan.counts), strict=True):
            tensor = gradients.tensors[i]
            shape = [-1] + [1] * (tensor.dim() - 1) if gradients.parameters[i].dim() > 1 else []
            multiply(tensor, factors.view(shape))


def _norms_after(gradients: Gradients, each: Tensor, plan: _Plan) -> Tensor:
    """Norms after the clip, ``[P]``, of this rank's parts; ``each`` are those before it, over all ranks."""
    local = norms(gradients.tensors, groups=gradients.groups) if gradients.exchanges else each
    owner = torch.tensor(list(plan.members), dtype=torch.int64, device="cpu")
    owner = owner.repeat_interleave(torch.tensor(plan.counts, dtype=torch.int64, device="cpu"))
    owner = owner.to(each.device, non_blocking=True)
    touched = torch.zeros_like(local).index_fill(0, owner, 1.0)
    squares = torch.zeros_like(local).index_add(0, owner, plan.squares_after.to(local.dtype))
    return torch.where(touched > 0, squares.sqrt(), local)


def _weights(gradients: Gradients, index: int) -> Tensor:
    """The weights that a gradient's units belong to: for a sparse gradient, the rows it holds."""
    parameter = gradients.parameters[index].detach()
    if is_dtensor(parameter):
        parameter = local_part(parameter)[1]
    grad = gradients.parameters[index].grad
    if grad is not None and grad.layout == torch.sparse_coo:
        parameter = parameter[tuple(grad.indices())]
    return torch.view_as_real(parameter) if parameter.is_complex() else parameter


def _all_units(tensors: Sequence[Tensor], rows: Sequence[bool], home: torch.device) -> tuple[Tensor, list[int]]:
    """Norm of each unit of all tensors, ``[sum of U]`` in float64, and how many each has.

    A unit is a row along the first dimension, or the whole tensor.
    """
    flat = [t.flatten(1) if row else t.reshape(1, -1) for t, row in zip(tensors, rows, strict=True)]
    quick = home.type == "cpu" and all(t.dtype != torch.float64 for t in tensors)
    found = [_row_norms(x, torch.float32 if quick else wide(x.device)) for x in flat]
    joined = torch.cat([x.to(home) for x in found])
    if quick and not on_host(torch.isfinite(joined).all()):  # float32 squares overflow from 2e19 on
        joined = torch.cat([_row_norms(x, wide(home)) for x in flat])
    return joined.to(wide(home)), [len(x) for x in found]


def _row_norms(rows: Tensor, accumulate: torch.dtype) -> Tensor:
    found: Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=accumulate)
    return found
