"""What the clips of one step did, so that gradients can be reported as they were before any of them.

Shapes legend: n = gradients of one call.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
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


@dataclass
class _Unread:
    """A clip whose numbers may still be on a device. ``after`` is the norm it left, where the clip says."""

    gradients: Sequence[Tensor]
    max_norm: float
    norm: Tensor
    coefficient: Tensor
    norms: Tensor | None
    after: Tensor | None = None
    exact: bool = False
    parameters: Sequence[Tensor] = ()

    def numbers(self) -> list[Tensor]:
        """What is to be read."""
        return [number for number in (self.norm, self.coefficient, self.norms, self.after) if number is not None]

    def on_host(self, numbers: Sequence[Tensor]) -> _Unread:
        """The same with these numbers, which are on the host."""
        rest = iter(numbers)
        norm, coefficient = next(rest), next(rest)
        norms = next(rest) if self.norms is not None else None
        after = next(rest) if self.after is not None else None
        return replace(self, norm=norm, coefficient=coefficient, norms=norms, after=after)


def are_same(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    """Whether two sequences hold the very same tensors."""
    return len(some) == len(others) and all(map(operator.is_, some, others))


class Clips:
    """The clips of one step. ``summary`` is what the record says of them."""

    def __init__(self) -> None:
        self.summary: Clip | None = None
        self._calls: list[_Call] = []
        self._open: tuple[list[Tensor], Tensor, Tensor] | None = None  # gradients, their norms, the total
        self._unread: _Unread | None = None  # the latest clip, where reading it may mean to wait

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been clipped yet."""
        return not self._calls and self._unread is None

    def quick_total(self, gradients: list[Tensor]) -> Tensor | None:
        """As :meth:`total_norm`, of gradients on the CPU that are all of one type; may raise where they are sparse."""
        if {*map(type, gradients)} != {Tensor} or len({g.dtype for g in gradients}) > 1 or not gradients[0].is_cpu:
            return None
        return self._measure(gradients)

    def _measure(self, gradients: list[Tensor]) -> Tensor:
        norms = torch.stack(torch._foreach_norm(gradients, 2.0))
        total: Tensor = torch.linalg.vector_norm(norms, 2.0)
        self._open = gradients, norms, total
        return total

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
        return self._measure(list(gradients))

    def scaled_here(self, parameters: Sequence[Tensor], max_norm: float, total: Any, *, at_once: bool = False) -> bool:
        """A clip is about to scale. If it goes by the norm that :meth:`total_norm` gave, do it here; say whether.

        The gradients need not be sorted by device once more, and a factor of exactly 1 is no pass over them. Where the
        clip follows ``at_once``, they need not be looked up either.
        """
        kept = self._open
        if kept is None or kept[2] is not total or not total.is_cpu:
            return False
        gradients = kept[0]
        if not at_once and not are_same(kept[0], [g for p in parameters if (g := p.grad) is not None]):
            return False
        norm = float(total)
        if not _is_one(max_norm, norm):  # first, because it may raise: then nothing has been noted
            torch._foreach_mul_(gradients, torch.clamp(max_norm / (total + 1e-6), max=1.0))
        complete = parameters if len(gradients) == len(parameters) else ()
        self._take(_Call(gradients, kept[1], _coefficient(max_norm, norm), parameters=complete), max_norm, norm)
        self._open = None
        return True

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
        if ours and self.scaled_here(parameters, max_norm, total):
            return True
        kept, self._open = self._open, None
        gradients = [g for p in parameters if (g := p.grad) is not None]
        known = kept is not None and kept[2] is total and are_same(kept[0], gradients)
        if total.device.type != "cpu":
            factor = self._on_device(parameters, gradients, max_norm, total, kept[1] if kept and known else None)
            if known and ours:
                torch._foreach_mul_(gradients, factor)
            return known and ours
        norm = float(total)
        call = _Call(gradients, kept[1] if kept is not None and known else None, _coefficient(max_norm, norm))
        if len(gradients) == len(parameters):
            call.parameters = parameters
        self._take(call, max_norm, norm)
        return ours and _is_one(max_norm, norm)

    def _on_device(
        self,
        parameters: Sequence[Tensor],
        gradients: list[Tensor],
        max_norm: float,
        total: Tensor,
        norms: Tensor | None,
    ) -> Tensor:
        """The factor, unread: to read a number that a device has yet to compute would be to wait for it."""
        self.read()
        factor = torch.clamp(max_norm / (total + 1e-6), max=1.0)
        complete = parameters if len(gradients) == len(parameters) else ()
        self._unread = _Unread(gradients, max_norm, total, factor, norms, parameters=complete)
        return factor

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
        if self._unread is not None and not are_same(self._unread.gradients, gradients):
            self.read()  # otherwise a chain's word replaces its links'
        complete = parameters if len(gradients) == len(parameters) else ()
        self._unread = _Unread(
            gradients, max_norm, info.norm_before, info.coefficient, info.norms, info.norm_after, True, complete
        )

    def unread(self) -> list[Tensor]:
        """Numbers of the latest clip that are to be read from a device."""
        found = [] if self._unread is None else self._unread.numbers()
        return found if any(number.device.type != "cpu" for number in found) else []

    def arrived(self, numbers: Sequence[Tensor]) -> None:
        """The same numbers, on the host."""
        assert self._unread is not None
        self._unread = self._unread.on_host(numbers)

    def read(self) -> None:
        """Take the numbers of the latest clip, wherever they are."""
        if self._unread is None:
            return
        told, self._unread = self._unread, None
        norm = float(told.norm)
        factor = float(told.coefficient) if math.isfinite(norm) else math.nan
        call = _Call(told.gradients, told.norms, factor, exact=told.exact, parameters=told.parameters)
        if told.exact and math.isinf(told.max_norm):  # that one only measures
            self._calls.append(call)
        else:
            bound = told.max_norm if math.isfinite(told.max_norm) or told.after is None else float(told.after)
            self._take(call, bound, norm)

    def by_hand(self, raw: float, total: float) -> None:
        """Gradients that shrank between backward and step were clipped by the script's own code."""
        if self.summary is None and math.isfinite(raw) and 0 < total < 0.99 * raw:
            self.summary = Clip("by hand", total, raw, total / raw)

    def has_told(self) -> bool:
        """Whether a clipper of ours measured this step's gradients."""
        return any(call.exact for call in self._calls)

    def plain(self, parameters: Sequence[Tensor]) -> tuple[Tensor, float] | None:
        """Norms and their total, where the step had one clip by norm, of the gradients of just these parameters."""
        call = self._calls[0] if len(self._calls) == 1 else None
        if call is None or call.norms is None or self.summary is None or not are_same(call.parameters, parameters):
            return None
        return call.norms, self.summary.norm

    def settle(self) -> bool:
        """Take the numbers of the latest clip if that means no waiting for a device; say whether all are taken."""
        if self._unread is not None and not self.unread():
            self.read()
        return self._unread is None

    def single(self, ids: tuple[int, ...]) -> tuple[Tensor, float] | None:
        """As :meth:`plain`, of parameters that are known by their ids."""
        call = self._calls[0]
        if len(self._calls) > 1 or call.norms is None or self.summary is None or tuple(map(id, call.parameters)) != ids:
            return None
        return call.norms, self.summary.norm

    def measured(self, gradients: Sequence[Tensor]) -> tuple[Tensor, float] | None:
        """Norms and total of gradients that nothing was done to, if they are such as are measured together."""
        total = self.total_norm(gradients, 2.0, False, None)
        return (self._open[1], float(total)) if total is not None and self._open is not None else None

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


def _is_one(max_norm: float, norm: float) -> bool:
    """Whether torch's factor is exactly 1, in whatever precision it is worked out."""
    return math.isfinite(norm) and norm * (1 + 1e-5) + 1e-5 < max_norm


def _coefficient(max_norm: float, norm: float) -> float:
    return min(1.0, max_norm / (norm + 1e-6)) if math.isfinite(norm) else math.nan
