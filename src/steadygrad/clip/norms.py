"""The norm of each gradient, right over the whole range of its number format, in one read of the gradients.

Shapes legend: n = tensors.

float32 squares overflow from 2e19 on and vanish below 1e-19, and a long sum in float32 loses digits. On the CPU sums
are therefore kept short, combined in float64, and redone in float64 where one left the safe range (looking at a value
in the CPU's memory waits for nothing). On an accelerator the kernel itself accumulates in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Tensors up to this size are copied together and reduced at once, if they are many: calls cost more than copies.
SMALL, MANY = 2048, 128
#: Elements copied together at a time (1 MiB in float32: it stays in the cache).
TOGETHER = 1 << 18
#: Tensors up to this size are reduced by torch's norm: 5e-7 off for ordinary gradients, 3e-5 for equal numbers.
MEDIUM = 1 << 15
#: Longest sum in float32 of larger ones: 1e-7 off for ordinary gradients, 1e-5 for equal numbers (torch's norm: 1e-4).
RUN = 1 << 17
#: Norms outside of this range are redone in float64.
SAFE_LOW, SAFE_HIGH = 1e-15, 3e18


_is_cpu = attrgetter("is_cpu")


def wide(device: torch.device) -> torch.dtype:
    """The widest real type of a device."""
    return torch.float32 if device.type == "mps" else torch.float64


def on_host(tensor: Tensor) -> NDArray[np.float64]:
    """A CPU tensor's own memory as an array."""
    found: NDArray[np.float64] = tensor.detach().numpy()
    return found


def alike(tensors: Sequence[Tensor]) -> list[Sequence[int]]:
    """Indices of tensors of one device and type each: what one kernel can take."""
    if not tensors:
        return []
    on_cpu = all(map(_is_cpu, tensors))  # quicker than to compare devices
    if len({t.dtype for t in tensors}) == 1 and (on_cpu or len({t.device for t in tensors}) == 1):
        return [range(len(tensors))]
    groups: dict[tuple[torch.device, torch.dtype], list[int]] = {}
    for i, tensor in enumerate(tensors):
        groups.setdefault((tensor.device, tensor.dtype), []).append(i)
    return list(groups.values())


def norms(tensors: Sequence[Tensor], *, p: float = 2.0, groups: Sequence[Sequence[int]] | None = None) -> Tensor:
    """The p-norm of each tensor: shape ``[n]``, float64, on the device of the first. For callers under ``no_grad``.

    Args:
        tensors: dense and real; any shapes, devices and floating types.
        p: 1, 2, any other positive number, or ``inf``.
        groups: their :func:`alike`, where it is known.

    Example:
        >>> norms([torch.tensor([3.0, -4.0]), torch.tensor([2.0**100])]).log2().tolist()
        [2.321928094887362, 100.0]
    """
    groups = alike(tensors) if groups is None else groups
    if not groups:
        return torch.zeros(0, dtype=torch.float64, device="cpu")
    if len(groups) == 1:
        return _norms_alike(tensors, p)
    home = tensors[0].device
    found: dict[int, Tensor] = {}
    for members in groups:
        each = _norms_alike([tensors[i] for i in members], p).to(home, wide(home), non_blocking=True)
        found.update(zip(members, each.unbind(), strict=True))
    # Not written to their places by index: the host would wait for the copy of the indices to the device.
    return torch.stack([found[i] for i in range(len(tensors))])


def _norms_alike(tensors: Sequence[Tensor], p: float) -> Tensor:
    device = tensors[0].device
    if device.type == "cpu" and p == 2.0:
        return torch.from_numpy(np.array(_cpu_norms(tensors)))
    # The largest entry of nothing is an error in torch; a norm of nothing is 0.
    filled = [t if t.numel() else t.new_zeros(1) for t in tensors]
    if not math.isinf(p):
        return torch.stack(list(torch._foreach_norm(filled, p, dtype=wide(device))))
    if device.type == "cpu":  # torch's own largest norm is ten times slower
        return torch.stack([torch.maximum(t.amax(), -t.amin()) for t in filled]).to(wide(device))
    return torch.stack(list(torch._foreach_norm(filled, p))).to(wide(device))


def joint(each: Tensor, p: float = 2.0) -> Tensor:
    """The p-norm of everything from the norms of its parts, 0-dim; 0 of no parts."""
    if not len(each):
        return each.new_zeros(())
    if p == 2.0 and each.device.type == "cpu":
        return torch.scalar_tensor(math.hypot(*each.tolist()), dtype=each.dtype, device="cpu")
    if p in (1.0, 2.0) or math.isinf(p):
        total: Tensor = torch.linalg.vector_norm(each, p)
        return total
    top = each.amax()  # high powers overflow even float64
    return torch.where((top > 0) & torch.isfinite(top), top * torch.linalg.vector_norm(each / top, p), top)


def _cpu_norms(tensors: Sequence[Tensor]) -> list[float]:
    sizes = list(map(Tensor.numel, tensors))
    if max(sizes) <= MEDIUM and (len(sizes) < MANY or min(sizes) > SMALL):
        out = _by_torch(tensors)
    else:
        out = [0.0] * len(tensors)
        for members, reduce in _by_size(sizes):
            for i, norm in zip(members, reduce([tensors[i] for i in members]), strict=True):
                out[i] = norm
    if not (min(out) > SAFE_LOW and max(out) < SAFE_HIGH):
        out = [x if SAFE_LOW < x < SAFE_HIGH else _exactly(flat(t)) for x, t in zip(out, tensors, strict=True)]
    return out


def _by_size(sizes: Sequence[int]) -> Iterator[tuple[list[int], Callable[[Sequence[Tensor]], list[float]]]]:
    """Which tensors are best reduced by which of the three ways; empty ones by none."""
    small = [i for i, size in enumerate(sizes) if 0 < size <= SMALL]
    few = len(small) < MANY
    while small and not few:
        ends = np.cumsum([sizes[i] for i in small])
        count = max(1, int(np.searchsorted(ends, TOGETHER)))
        yield small[:count], _together
        small = small[count:]
    medium = [i for i, size in enumerate(sizes) if (0 if few else SMALL) < size <= MEDIUM]
    if medium:
        yield medium, _by_torch
    large = [i for i, size in enumerate(sizes) if size > MEDIUM]
    if large:
        yield large, _in_runs


def _together(tensors: Sequence[Tensor]) -> list[float]:
    """Norms of many small tensors."""
    joined = on_host(torch._utils._flatten_dense_tensors(tensors).double())  # type: ignore[no-untyped-call]
    sizes = np.fromiter(map(Tensor.numel, tensors), dtype=np.intp, count=len(tensors))
    with np.errstate(all="ignore"):
        found: list[float] = np.sqrt(np.add.reduceat(np.square(joined), np.cumsum(sizes) - sizes)).tolist()
    return found


def _by_torch(tensors: Sequence[Tensor]) -> list[float]:
    """Norms of tensors of medium size: this costs the fewest calls."""
    half = tensors[0].dtype in (torch.float16, torch.bfloat16)
    found = torch._foreach_norm(list(tensors), 2.0, dtype=torch.float32 if half else None)
    return list(map(Tensor.item, found))


def _in_runs(tensors: Sequence[Tensor]) -> list[float]:
    """Norms of large tensors: BLAS reads faster than torch's norm does, and is more exact."""
    sums: list[Tensor] = []
    starts: list[int] = []
    for tensor in tensors:
        starts.append(len(sums))
        for run in torch.split(flat(tensor), RUN):
            part = run if run.dtype in (torch.float32, torch.float64) else run.float()
            sums.append(torch.dot(part, part))
    found: list[float] = np.sqrt(np.add.reduceat(on_host(torch.stack(sums)), starts, dtype=np.float64)).tolist()
    return found


def _exactly(x: Tensor) -> float:
    """Norm of one flat tensor whose squares left the range of float32, or (in float64) of float64."""
    if not x.numel():
        return 0.0
    parts = (run.double() for run in torch.split(x, TOGETHER))
    square = sum(float(on_host(torch.dot(part, part))) for part in parts)
    if x.dtype == torch.float64 and not SAFE_LOW**16 < square < math.inf:
        largest = float(on_host(x.abs().amax()))
        if 0 < largest < math.inf:
            return largest * float(on_host(torch.linalg.vector_norm(x / largest)))
    return math.sqrt(square)


def flat(tensor: Tensor) -> Tensor:
    """All numbers of a dense tensor in one dimension, without a copy where its memory has no gaps."""
    if tensor.is_contiguous():
        return tensor.view(-1)
    if tensor.dim() > 1:
        tensor = tensor.permute(sorted(range(tensor.dim()), key=tensor.stride, reverse=True))
    return tensor.reshape(-1)
