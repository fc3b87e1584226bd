"""Batched statistics: tensors in, one small tensor out. No host reads, no files, no clock.

Shapes legend: n = tensors, K = statistics.

A training step has hundreds of small tensors, and a kernel launch each would cost more than the training. Tensors of
equal size are therefore stacked and reduced together, so the cost follows the number of *different* sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

#: Elements stacked at a time (4 MiB in float32); a larger tensor is reduced by itself.
STACK_LIMIT = 1 << 20
#: The squares of smaller numbers lose digits in float32, or vanish.
UNDERFLOW = 1e-16
#: Updates of larger tensors are measured on an evenly strided sample of this many elements.
UPDATE_SAMPLE = 1 << 16


@dataclass(frozen=True, slots=True)
class Statistic:
    """A column of :func:`moments`: what it is, and how partial values of different ranks combine."""

    key: str
    formula: str
    across_ranks: str  # sum | max | root-sum-square


MOMENTS = (
    Statistic("l1", "sum |x|", "sum"),
    Statistic("l2", "sqrt(sum x^2)", "root-sum-square"),
    Statistic("sum", "sum x", "sum"),
    Statistic("max", "max |x|", "max"),
    Statistic("zeros", "number of x == 0", "sum"),
)


def measurable(tensor: Tensor) -> bool:
    """Whether a tensor has numbers of its own: not on the meta device, not nested, not a view of a transform."""
    if type(tensor).__name__ == "FakeTensor" or tensor.is_meta or tensor.is_nested or tensor.layout != torch.strided:
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def plain(tensor: Tensor) -> Tensor:
    """The stored numbers of a tensor as a dense real 1-D float tensor: sparse, complex and half types included."""
    if tensor.dtype == torch.float32 and tensor.layout == torch.strided:
        return tensor.detach().reshape(-1)
    tensor = tensor.detach()
    if tensor.layout == torch.sparse_coo:
        tensor = tensor.coalesce().values()
    elif tensor.layout != torch.strided:
        tensor = tensor.values()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    if tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.float()
    return tensor.reshape(-1)


class Scratch:
    """Working memory kept between calls: fresh pages for every temporary cost more than the arithmetic on them."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def take(self, name: str, rows: int, like: Tensor) -> Tensor:
        """An uninitialised ``[rows, numel]`` block, valid until the next call with the same name."""
        key, size = (name, like.dtype, like.device), rows * like.numel()
        if torch.is_inference_mode_enabled():  # a buffer made here could not be written to outside
            return torch.empty(rows, like.numel(), dtype=like.dtype, device=like.device)
        buffer = self._buffers.get(key)
        if buffer is None or buffer.numel() < size:
            buffer = self._buffers[key] = torch.empty(max(size, 1 << 14), dtype=like.dtype, device=like.device)
        return buffer[:size].view(rows, like.numel())


_scratch = Scratch()


def blocks(tensors: Sequence[Tensor]) -> Iterator[tuple[list[int], Tensor]]:
    """Group flat tensors of equal size, type and device into ``[group, numel]`` blocks; empty tensors are left out.

    A block is only valid until the next one is asked for.
    """
    groups: dict[tuple[int, torch.dtype, torch.device], list[int]] = {}
    for i, tensor in enumerate(tensors):
        if tensor.numel():
            groups.setdefault((tensor.numel(), tensor.dtype, tensor.device), []).append(i)
    for (numel, _, _), members in groups.items():
        room = max(1, STACK_LIMIT // numel)
        for start in range(0, len(members), room):
            chosen = members[start : start + room]
            if len(chosen) == 1:
                yield chosen, tensors[chosen[0]].unsqueeze(0)
            else:
                block = _scratch.take("block", len(chosen), tensors[chosen[0]])
                torch.stack([tensors[i] for i in chosen], out=block)
                yield chosen, block


@torch.no_grad()
def moments(tensors: Sequence[Tensor]) -> Tensor:
    """The five :data:`MOMENTS` of each tensor: shape ``[n, 5]``, float64, on the CPU's or the tensors' device.

    Args:
        tensors: any real, complex, sparse or half-precision tensors; shapes may differ.

    Example:
        >>> moments([torch.tensor([3.0, -4.0, 0.0])]).tolist()
        [[7.0, 5.0, -1.0, 4.0, 1.0]]
    """
    flat = [plain(t) for t in tensors]
    device = flat[0].device if flat else torch.device("cpu")
    out = torch.zeros(len(flat), len(MOMENTS), dtype=torch.float64, device=device)
    for members, block in blocks(flat):
        magnitude = torch.abs(block, out=_scratch.take("magnitude", len(block), block[0]))
        rows = [
            magnitude.sum(1),
            torch.linalg.vector_norm(block, dim=1),
            block.sum(1),
            magnitude.amax(1),
            # Counting through sign() is an order of magnitude faster than comparing and counting booleans.
            block.shape[1] - magnitude.sign_().sum(1),
        ]
        out[members] = torch.stack(rows, dim=1).to(device, torch.float64)
    suspicious = ~torch.isfinite(out).all(1) | ((out[:, 3] > 0) & (out[:, 3] < UNDERFLOW))
    if bool(suspicious.any()):
        _rescue(flat, out, suspicious.nonzero().flatten().tolist())
    return out


def _rescue(flat: Sequence[Tensor], out: Tensor, rows: Sequence[int]) -> None:
    """Redo in float64 what overflowed float32 (the square of a finite 1e20 does not fit), underflowed, or met a NaN."""
    for row in rows:
        wide = flat[row].double()
        out[row, 4] = (wide == 0).sum()
        out[row, 0] = torch.linalg.vector_norm(wide, 1)
        out[row, 1] = torch.linalg.vector_norm(wide, 2)
        out[row, 2] = wide.sum()


@torch.no_grad()
def norms(tensors: Sequence[Tensor]) -> Tensor:
    """L2 norm of each tensor: shape ``[n]``, float32 (float64 where an input is float64), one device.

    Uses the very kernels of ``torch.nn.utils.clip_grad_norm_`` on ordinary gradients, so the two agree to the bit.
    """
    if not tensors:
        return torch.zeros(0, device="cpu")
    usual = all(t.layout == torch.strided and t.dtype == torch.float32 for t in tensors)
    values = list(tensors) if usual else [plain(t) for t in tensors]
    device = values[0].device
    result = torch._foreach_norm(values)
    if all(v.dtype == values[0].dtype and v.device == device for v in values):
        return torch.stack(result)
    return torch.stack([r.to(device, torch.float64) for r in result])


@torch.no_grad()
def safe_norms(tensors: Sequence[Tensor]) -> Tensor:
    """As :func:`norms` in float64, right where squares overflow float32. Slower; for suspicious steps only."""
    return moments(tensors)[:, 1] if tensors else torch.zeros(0, dtype=torch.float64, device="cpu")


Snapshot = list[tuple[list[int], Tensor]]


def thinned(tensor: Tensor, limit: int = UPDATE_SAMPLE) -> Tensor:
    """The tensor flat, or evenly strided down to about ``limit`` elements. The stride is odd: no column is favoured."""
    flat = plain(tensor)
    return flat[:: (flat.numel() // limit) | 1] if flat.numel() > limit else flat


@torch.no_grad()
def snapshot(tensors: Sequence[Tensor]) -> Snapshot:
    """Copies to measure a later change against: whole, or an evenly strided :data:`UPDATE_SAMPLE` of larger tensors."""
    return [(members, block.clone()) for members, block in blocks([thinned(t) for t in tensors])]


@torch.no_grad()
def change(before: Snapshot, tensors: Sequence[Tensor]) -> Tensor:
    """L2 norm of each tensor's change since ``before``: shape ``[n]``, float64; estimated where a sample was kept."""
    flat = [thinned(t) for t in tensors]
    out = torch.zeros(len(flat), dtype=torch.float64, device=flat[0].device if flat else None)
    for members, block in before:
        now = torch.stack([flat[i] for i in members], out=_scratch.take("block", len(members), flat[members[0]]))
        share = [plain(tensors[i]).numel() / flat[i].numel() for i in members]
        distance = torch.linalg.vector_norm(now.sub_(block), dim=1).double()
        out[members] = distance.to(out.device) * torch.tensor(share, dtype=torch.float64, device=out.device).sqrt()
    return out
