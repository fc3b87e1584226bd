"""The norm of each gradient, right over the whole range of its number format, in one read of the gradients.

Shapes legend: n = tensors.

float32 squares overflow from 2e19 on and vanish below 1e-19, and a long sum in float32 loses digits. On the CPU sums
are therefore kept short, combined in float64, and redone in float64 where one left the safe range (looking at a value
in the CPU's memory waits for nothing). On an accelerator the kernel itself accumulates in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Tensors up to this size are copied together and reduced at once: calls cost more than copies.
SMALL = 2048
#: Elements copied together at a time (1 MiB in float32: it stays in the cache).
TOGETHER = 1 << 18
#: Longest sum in float32. Its relative error stays below 1e-5 even for equal numbers; torch's own reaches 3e-2.
RUN = 1 << 16
#: Sums of squares outside of this range are redone in float64.
SAFE_LOW, SAFE_HIGH = 1e-30, 1e37


def wide(device: torch.device) -> torch.dtype:
    """The widest real type of a device."""
    return torch.float32 if device.type == "mps" else torch.float64


def on_host(tensor: Tensor) -> NDArray[np.float64]:
    """A CPU tensor's own memory as an array."""
    found: NDArray[np.float64] = tensor.detach().numpy()
    return found


@torch.no_grad()
def norms(tensors: Sequence[Tensor], *, p: float = 2.0) -> Tensor:
    """The p-norm of each tensor: shape ``[n]``, float64, on the device of the first.

    Args:
        tensors: dense and real; any shapes, devices and floating types.
        p: 1, 2, any other positive number, or ``inf``.

    Example:
        >>> norms([torch.tensor([3.0, -4.0]), torch.tensor([2.0**100])]).log2().tolist()
        [2.321928094887362, 100.0]
    """
    if not tensors:
        return torch.zeros(0, dtype=torch.float64, device="cpu")
    groups: dict[torch.device, list[int]] = {}
    for i, tensor in enumerate(tensors):
        groups.setdefault(tensor.device, []).append(i)
    if len(groups) == 1:
        return _on_device(tensors, p)
    home = tensors[0].device
    out = torch.zeros(len(tensors), dtype=wide(home), device=home)
    for members in groups.values():
        out[members] = _on_device([tensors[i] for i in members], p).to(out)
    return out


def _on_device(tensors: Sequence[Tensor], p: float) -> Tensor:
    device = tensors[0].device
    if device.type == "cpu" and p == 2.0:
        return torch.from_numpy(_cpu_norms(tensors))
    # The largest entry of nothing is an error in torch; a norm of nothing is 0.
    filled = [t if t.numel() else t.new_zeros(1) for t in tensors]
    if math.isinf(p):
        return torch.stack([n.to(wide(device)) for n in torch._foreach_norm(filled, p)])
    return torch.stack(list(torch._foreach_norm(filled, p, dtype=wide(device))))


def joint(each: Tensor, p: float = 2.0) -> Tensor:
    """The p-norm of everything from the norms of its parts, 0-dim; 0 of no parts."""
    if not len(each):
        return each.new_zeros(())
    if p in (1.0, 2.0) or math.isinf(p):
        total: Tensor = torch.linalg.vector_norm(each, p)
        return total
    top = each.amax()  # high powers overflow even float64
    return torch.where((top > 0) & torch.isfinite(top), top * torch.linalg.vector_norm(each / top, p), top)


def _cpu_norms(tensors: Sequence[Tensor]) -> NDArray[np.float64]:
    sizes = [t.numel() for t in tensors]
    squares = np.zeros(len(tensors))
    for members in _small_groups(tensors, sizes):
        with np.errstate(all="ignore"):
            squares[members] = _together([tensors[i] for i in members], [sizes[i] for i in members])
    large = [i for i, size in enumerate(sizes) if size > SMALL]
    if large:
        squares[large] = _one_by_one([tensors[i] for i in large])
    out: NDArray[np.float64] = np.sqrt(squares)
    for i in np.flatnonzero(~((squares > SAFE_LOW) & (squares < SAFE_HIGH))).tolist():
        out[i] = _exactly(flat(tensors[i])) if sizes[i] else 0.0
    return out


def _small_groups(tensors: Sequence[Tensor], sizes: Sequence[int]) -> Iterator[list[int]]:
    """Indices of small tensors of one type, at most :data:`TOGETHER` elements at a time."""
    groups: dict[torch.dtype, list[int]] = {}
    for i, size in enumerate(sizes):
        if 0 < size <= SMALL:
            groups.setdefault(tensors[i].dtype, []).append(i)
    for members in groups.values():
        ends = np.cumsum([sizes[i] for i in members])
        cuts = np.searchsorted(ends, np.arange(TOGETHER, ends[-1], TOGETHER), side="right")
        bounds = [0, *np.unique(cuts).tolist(), len(members)]
        yield from (members[a:b] for a, b in pairwise(bounds) if a < b)


def _together(tensors: Sequence[Tensor], sizes: Sequence[int]) -> NDArray[np.float64]:
    """Sums of squares of many small tensors."""
    joined = on_host(torch._utils._flatten_dense_tensors(tensors).double())  # type: ignore[no-untyped-call]
    starts = np.cumsum(sizes, dtype=np.intp) - np.array(sizes, dtype=np.intp)
    found: NDArray[np.float64] = np.add.reduceat(np.square(joined), starts)
    return found


def _one_by_one(tensors: Sequence[Tensor]) -> NDArray[np.float64]:
    """Sums of squares of large tensors: BLAS reads faster than a norm does, and is more exact."""
    sums: list[Tensor] = []
    starts: list[int] = []
    for tensor in tensors:
        starts.append(len(sums))
        x = flat(tensor)
        for run in torch.split(x, RUN) if len(x) > RUN else (x,):
            part = run if run.dtype in (torch.float32, torch.float64) else run.float()
            sums.append(torch.dot(part, part))
    found: NDArray[np.float64] = np.add.reduceat(on_host(torch.stack([s.double() for s in sums])), starts)
    return found


def _exactly(x: Tensor) -> float:
    """Norm of one flat tensor whose squares left the range of float32, or (in float64) of float64."""
    parts = (run.double() for run in torch.split(x, TOGETHER))
    square = sum(float(on_host(torch.dot(part, part))) for part in parts)
    if x.dtype == torch.float64 and not SAFE_LOW**8 < square < math.inf:
        largest = float(on_host(x.abs().amax()))
        if 0 < largest < math.inf:
            return largest * float(on_host(torch.linalg.vector_norm(x / largest)))
    return math.sqrt(square)


def flat(tensor: Tensor) -> Tensor:
    """All numbers of a dense tensor in one dimension, without a copy where its memory has no gaps."""
    if not tensor.is_contiguous():
        tensor = tensor.permute(sorted(range(tensor.dim()), key=tensor.stride, reverse=True))
    return tensor.reshape(-1)
