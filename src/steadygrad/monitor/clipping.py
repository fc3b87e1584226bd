"""What the clips of one step did, so that gradients can be reported as they were before any of them.

Shapes legend: n = gradients of one call.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._foreach_utils import _group_tensors_by_device_and_dtype

from steadygrad import stats
from steadygrad.records import Clip


@dataclass
class _Call:
    """One clip: which gradients, their norms before it where they are known, and the factor."""

    gradients: Sequence[Tensor]
    norms: Tensor | None
    coefficient: float  # NaN for a clip by value
    exact: bool = False  # the norms are those of a clipper of ours: right whatever has been done to the loss
    parameters: Sequence[Tensor] = ()  # whose gradients these are, where each of them has one

    @cached_property
    def ids(self) -> tuple[int, ...]:
        """Which gradients."""
        return tuple(map(id, self.gradients))


def are_same(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    """Whether two sequences hold the very same tensors."""
    return len(some) == len(others) and all(map(operator.is_, some, others))


class Clips:
    """The clips of one step. ``summary`` is what the record says of them."""

    def __init__(self) -> None:
        self.summary: Clip | None = None
        self._calls: list[_Call] = []
        self._open: tuple[list[Tensor], Tensor, Tensor] | None = None  # gradients, their norms, the total
        self._told: tuple[list[Tensor], float, Any] | None = None  # what a clipper of ours measured, unread
        self._told_of: Sequence[Tensor] = ()  # whose gradients, where each of them has one

    def total_norm(
        self, gradients: Sequence[Tensor], norm_type: float, error: object, foreach: object
    ) -> Tensor | None:
        """The total norm as torch computes it, kept for the step. None: not ours to do."""
        if float(norm_type) != 2.0 or error or foreach is False or not gradients:
            return None
        first = gradients[0]
        if {*map(type, gradients)} != {Tensor} or first.is_meta:  # sets, because this is done at every step
            return None
        if len(_group_tensors_by_device_and_dtype([list(gradients)])) > 1:
            return None
        if {g.layout for g in gradients} != {torch.strided} or first.device.type not in ("cpu", "cuda"):
            return None
        norms = torch.stack(torch._foreach_norm(list(gradients), 2.0))
        total: Tensor = torch.linalg.vector_norm(norms, 2.0)
        self._open = list(gradients), norms, total
        return total

    def scaled(self, parameters: Sequence[Tensor], max_norm: float, total: Any, *, ours: bool) -> bool:
        """A clip is about to scale.

        Args:
            parameters: whose gradients.
            max_norm: the threshold.
            total: the total norm it goes by.
            ours: whether the scaling may be done here, where the gradients need not be sorted by device once more.

        Returns:
            Whether it has been done. A factor of exactly 1 is, without a pass over the gradients.
        """
        norm = float(total)
        kept, self._open = self._open, None
        gradients = [g for p in parameters if (g := p.grad) is not None]
        known = kept is not None and kept[2] is total and are_same(kept[0], gradients)
        call = _Call(gradients, kept[1] if kept is not None and known else None, _coefficient(max_norm, norm))
        if len(gradients) == len(parameters):
            call.parameters = parameters
        self._take(call, max_norm, norm)
        if math.isfinite(norm) and norm * (1 + 1e-5) + 1e-5 < max_norm:
            return ours
        if known and ours:
            torch._foreach_mul_(gradients, torch.clamp(max_norm / (total + 1e-6), max=1.0))
        return known and ours

    def scaled_over_ranks(self, parameters: Sequence[Tensor], max_norm: float, total: Tensor) -> None:
        """torch is about to scale the parts of gradients that each process holds, by their joint norm."""
        parts, norm = [stats.local(p.grad) for p in parameters if p.grad is not None], float(total)
        self._take(_Call(parts, None, _coefficient(max_norm, norm)), max_norm, norm)

    def _take(self, call: _Call, max_norm: float, norm: float) -> None:
        """Add a clip by norm, to the summary as well."""
        earlier, factor = self.summary, call.coefficient
        if earlier is None:
            self.summary = Clip("norm", max_norm, norm, factor)
        elif {i for before in self._calls for i in before.ids}.isdisjoint(call.ids):
            # one call per parameter group: the joint norm, and the strongest scaling
            self.summary = Clip("norm", max_norm, math.hypot(earlier.norm, norm), min(earlier.coefficient, factor))
        elif earlier.kind == "norm":  # the same gradients once more: both scalings
            self.summary = Clip("norm", min(earlier.threshold, max_norm), earlier.norm, earlier.coefficient * factor)
        self._calls.append(call)

    def clamped(self, gradients: Sequence[Tensor], limit: float) -> None:
        """A clip by value is about to clamp these."""
        if gradients:
            norms = stats.norms(gradients)
            self._calls.append(_Call(gradients, norms, math.nan))
            if self.summary is None:
                self.summary = Clip("value", limit, float(torch.linalg.vector_norm(norms)), math.nan)

    def told(self, parameters: Sequence[Tensor], max_norm: float, info: Any) -> None:
        """A clipper of ours measured. Its numbers are read later, when the step reads numbers anyway."""
        gradients = [g for p in parameters if (g := p.grad) is not None]
        if self._told is not None and not are_same(self._told[0], gradients):  # a chain's word replaces its links'
            self._read_told()
        complete = len(gradients) == len(parameters)
        self._told = gradients, max_norm, info
        self._told_of = parameters if complete else ()

    def _read_told(self) -> None:
        if self._told is None:
            return
        (gradients, max_norm, info), self._told = self._told, None
        norm = float(info.norm_before)
        factor = float(info.coefficient) if math.isfinite(norm) else math.nan
        call = _Call(gradients, info.norms, factor, exact=True, parameters=self._told_of)
        if math.isinf(max_norm):  # that one only measures
            self._calls.append(call)
        else:
            self._take(call, max_norm if math.isfinite(max_norm) else float(info.norm_after), norm)

    def by_hand(self, raw: float, total: float) -> None:
        """Gradients that shrank between backward and step were clipped by the script's own code."""
        if self.summary is None and math.isfinite(raw) and 0 < total < 0.99 * raw:
            self.summary = Clip("by hand", total, raw, total / raw)

    def has_told(self) -> bool:
        """Whether a clipper of ours measured this step's gradients."""
        self._read_told()
        return any(call.exact for call in self._calls)

    def plain(self, parameters: Sequence[Tensor]) -> tuple[Tensor, float] | None:
        """Norms and their total, where the step had one clip by norm, of the gradients of just these parameters."""
        call = self._calls[0] if len(self._calls) == 1 else None
        if call is None or call.norms is None or self.summary is None or not are_same(call.parameters, parameters):
            return None
        return call.norms, self.summary.norm

    def undone(self, gradients: Sequence[Tensor], *, rescaled: bool) -> tuple[Tensor, float | NDArray[np.float64]]:
        """Norms of the gradients before any clip, and the factor (for each, where they differ) that undoes the clips.

        Args:
            gradients: as the optimizer gets them.
            rescaled: they were divided by a loss scale at some time after the backward pass.
        """
        if not self._calls:
            return stats.norms(gradients), 1.0
        ids, only = tuple(map(id, gradients)), self._calls[0] if len(self._calls) == 1 else None
        factor = only.coefficient if only is not None and only.coefficient > 0 else 1.0
        if only is not None and only.norms is not None and only.ids == ids and (only.exact or not rescaled):
            return only.norms, 1.0 / factor
        norms = stats.norms(gradients)
        if only is not None and {*ids} <= {*only.ids} and (rescaled or only.norms is None):
            return norms / factor, 1.0 / factor
        return self._one_by_one(ids, norms, rescaled)

    def _one_by_one(self, ids: tuple[int, ...], norms: Tensor, rescaled: bool) -> tuple[Tensor, NDArray[np.float64]]:
        known: dict[int, float] = {}
        factors: dict[int, float] = {}
        for call in self._calls:
            if call.norms is not None and not rescaled:
                for i, norm in zip(call.ids, call.norms.tolist(), strict=True):
                    known.setdefault(i, norm / factors.get(i, 1.0))
            if call.coefficient > 0:
                factors.update({i: factors.get(i, 1.0) * call.coefficient for i in call.ids})
        scale = np.array([1.0 / factors.get(i, 1.0) for i in ids])
        before = [known.get(i, n * s) for i, n, s in zip(ids, norms.tolist(), scale.tolist(), strict=True)]
        return torch.tensor(before, dtype=norms.dtype, device=norms.device), scale


def _coefficient(max_norm: float, norm: float) -> float:
    return min(1.0, max_norm / (norm + 1e-6)) if math.isfinite(norm) else math.nan
