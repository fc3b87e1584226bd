"""Norms of parameters that several ranks share: each rank reads its part, one small vector is summed, all agree.

Shapes legend: P = parameters that have a gradient.

A vector of all parameters' powers of norms is reduced once for each mesh. Where a parameter is replicated over some
dimension of its mesh, only one of the copies counts. The vector's last entry says whether any rank met NaN or Inf, so
that all ranks decide alike even where only one has seen it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.distributed.device_mesh import DeviceMesh


@dataclass(frozen=True)
class Exchange:
    """One reduction: of which parameters, whose parts count, and over which groups of ranks, one after another."""

    members: Sequence[int]
    counted: Sequence[bool]
    groups: Sequence[ProcessGroup]


@dataclass(frozen=True)
class Layout:
    """How one parameter is laid out over a mesh: for each of its dimensions, the tensor dimension cut; None: copies."""

    mesh: DeviceMesh
    cuts: tuple[int | None, ...]


def is_dtensor(tensor: Tensor) -> bool:
    """Whether a tensor is spread over ranks by ``torch.distributed.tensor``."""
    if type(tensor) in (Tensor, torch.nn.Parameter) or not dist.is_available():
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def local_part(grad: Any) -> tuple[Tensor, Tensor, Layout]:
    """A gradient without pending sums, this rank's memory of it, and how it is laid out."""
    from torch.distributed._functional_collectives import AsyncCollectiveTensor
    from torch.distributed.tensor import Replicate

    if any(placement.is_partial() for placement in grad.placements):
        whole = [Replicate() if placement.is_partial() else placement for placement in grad.placements]
        grad = grad.redistribute(placements=whole)
    local: Any = grad.to_local()
    if isinstance(local, AsyncCollectiveTensor):
        local = local.wait()
    cuts = tuple(None if p.is_replicate() else int(getattr(p, "dim", 0)) for p in grad.placements)
    return grad, local, Layout(grad.device_mesh, cuts)


def exchanges_of(layouts: Sequence[Layout | None]) -> list[Exchange]:
    """The reductions that these parameters need; small meshes first, so that the last word is the largest's."""
    meshes: dict[DeviceMesh, list[int]] = {}
    for i, layout in enumerate(layouts):
        if layout is not None:
            meshes.setdefault(layout.mesh, []).append(i)
    found = []
    for mesh, members in sorted(meshes.items(), key=lambda item: item[0].size()):
        cuts = [layout.cuts for i in members if (layout := layouts[i]) is not None]
        reduced = [d for d in range(mesh.ndim) if mesh.size(d) > 1 and any(cut[d] is not None for cut in cuts)]
        counted = [_counts(mesh, cut, reduced) for cut in cuts]
        if mesh.ndim > 1 and mesh.size() == dist.get_world_size():
            everywhere = [d for d in range(mesh.ndim) if mesh.size(d) > 1]
            counted = [_counts(mesh, cut, everywhere) for cut in cuts]
            found.append(Exchange(members, counted, [dist.group.WORLD]))  # type: ignore[list-item]
        elif reduced:
            found.append(Exchange(members, counted, [mesh.get_group(d) for d in reduced]))
    return found


def _counts(mesh: DeviceMesh, cuts: Sequence[int | None], reduced: Sequence[int]) -> bool:
    """Whether this rank's part is the one of several equal copies that counts."""
    coordinate = mesh.get_coordinate()
    return coordinate is not None and all(cuts[d] is not None or coordinate[d] == 0 for d in reduced)


def over_ranks(
    each: Tensor, p: float, exchanges: Sequence[Exchange], flag: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Norms over all ranks, ``[P]``, and a flag that is up where any rank raised it, 0-dim.

    Args:
        each: norms of this rank's parts, ``[P]``.
        p: of which kind.
        exchanges: the reductions to make.
        flag: raised by this rank; None: where a norm is not finite.
    """
    bad = ~torch.isfinite(each).all() if flag is None else flag
    powers = to_power(each, p)
    for exchange in exchanges:
        where = _index(exchange.members, len(each), each.device)
        counted = torch.tensor(exchange.counted, dtype=torch.bool, device="cpu").to(each.device, non_blocking=True)
        mine = powers if where is None else powers[where]
        vector = reduced(torch.where(counted, mine, 0.0), bad, p, exchange.groups)
        powers = vector[:-1] if where is None else powers.index_put((where,), vector[:-1])
        bad = vector[-1] > 0
    return from_power(powers, p), bad


def joint_over_ranks(total: Tensor, bad: Tensor, p: float, group: ProcessGroup) -> tuple[Tensor, Tensor]:
    """The joint norm of what the ranks of a group hold apart, and whether any of them raised the flag, both 0-dim."""
    vector = reduced(to_power(total, p), bad, p, [group])
    return from_power(vector[0], p), vector[1] > 0


def reduced(powers: Tensor, bad: Tensor, p: float, groups: Sequence[ProcessGroup]) -> Tensor:
    """Powers, and the flag behind them, summed (for ``inf``: their largest) over groups of ranks."""
    vector = torch.cat([powers.reshape(-1), bad.to(powers.dtype).reshape(1)])
    for group in groups:
        dist.all_reduce(vector, dist.ReduceOp.MAX if math.isinf(p) else dist.ReduceOp.SUM, group=group)
    return vector


def to_power(norms: Tensor, p: float) -> Tensor:
    """What adds up over parts of a tensor. NaN counts as Inf where the largest is looked for: it has no order."""
    return norms.nan_to_num(nan=math.inf, posinf=math.inf) if math.isinf(p) else norms.pow(p)


def from_power(powers: Tensor, p: float) -> Tensor:
    """The inverse of :func:`to_power`."""
    return powers if math.isinf(p) else powers.pow(1.0 / p)


def _index(members: Sequence[int], count: int, device: torch.device) -> Tensor | None:
    """Where the members stand; None when they are all."""
    if len(members) == count:
        return None
    return torch.tensor(list(members), dtype=torch.int64, device="cpu").to(device, non_blocking=True)


def whole_units(squares: Sequence[Tensor], layouts: Sequence[Layout | None], rows: Sequence[bool]) -> list[Tensor]:
    """Complete the sums of squares of units where a unit itself is cut over ranks; one reduction for each way to cut.

    Args:
        squares: of each tensor, the first dimension being its units.
        layouts: of each tensor.
        rows: whether its units are rows; else it is one unit.
    """
    out = list(squares)
    cuts: dict[tuple[DeviceMesh, int], list[int]] = {}
    for i, layout in enumerate(layouts):
        for d, cut in enumerate(layout.cuts if layout is not None else ()):
            if layout is not None and cut is not None and layout.mesh.size(d) > 1 and not (rows[i] and cut == 0):
                cuts.setdefault((layout.mesh, d), []).append(i)
    for (mesh, d), members in cuts.items():
        vector = torch.cat([out[i].reshape(-1) for i in members])
        dist.all_reduce(vector, group=mesh.get_group(d))
        for i, part in zip(members, torch.split(vector, [out[i].numel() for i in members]), strict=True):
            out[i] = part.view_as(out[i])
    return out
