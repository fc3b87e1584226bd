"""Batched statistics: tensors in, one small tensor out. No files, no clock; one copy to the host at most.

Shapes legend: n = tensors, K = statistics.

A training step has hundreds of small tensors, and a kernel launch each would cost more than the training. Tensors of
equal size are therefore stacked and reduced together, so the cost follows the number of *different* sizes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Elements stacked at a time (256 KiB in float32: a block stays in the cache); a larger tensor is reduced by itself.
STACK_LIMIT = 1 << 16
#: Tensors up to this many elements are copied whole before they are thinned.
STACK_SMALL = 1 << 15
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
    if (
        type(tensor).__name__ == "FakeTensor"
        or sharded(tensor)
        or tensor.is_meta
        or tensor.is_nested
        or tensor.layout != torch.strided
    ):
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def sharded(tensor: Tensor) -> bool:
    """Whether the tensor is spread over processes (a DTensor): an operation on it may wait for the other ones."""
    return hasattr(tensor, "_local_tensor")


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor, always the same object. Nothing is communicated, so others do not matter."""
    held: Tensor = getattr(tensor, "_local_tensor", tensor)
    return held


def known_here(tensor: Tensor) -> Tensor | None:
    """The whole of a tensor where this process has it already; None where the others would have to be asked."""
    placements = getattr(tensor, "placements", ())
    return local(tensor) if all(placement.is_replicate() for placement in placements) else None


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


def blocks(
    tensors: Sequence[Tensor], limit: int | None = None, *, own: bool = False
) -> Iterator[tuple[list[int], Tensor]]:
    """Group tensors of equal shape, type and device into ``[group, numel]`` blocks; empty tensors are left out.

    A block is only valid until the next one is asked for, unless they are the caller's ``own``. For callers under
    ``no_grad``.

    Args:
        tensors: as for :func:`moments`.
        limit: larger tensors are thinned to about this many elements.
        own: make copies that stay.
    """
    groups: dict[tuple[torch.Size, torch.dtype, torch.device], list[int]] = {}
    # An operation on each tensor costs more than one on all their numbers, so what is plain already is left as it is.
    usual = [t if t.dtype == torch.float32 and t.layout == torch.strided else plain(t) for t in tensors]
    for i, tensor in enumerate(usual):
        groups.setdefault((tensor.shape, tensor.dtype, tensor.device), []).append(i)
    for (shape, _, _), members in groups.items():
        numel = shape.numel()
        room = max(1, STACK_LIMIT // max(1, numel))
        for start in range(0, len(members) if numel else 0, room):
            chosen = members[start : start + room]
            yield chosen, _block([usual[i] for i in chosen], numel, limit, own)


def _block(alike: list[Tensor], numel: int, limit: int | None, own: bool) -> Tensor:
    stride = (numel // limit) | 1 if limit is not None and numel > limit else 1
    if len(alike) == 1:
        view = alike[0].detach().reshape(1, -1)[:, ::stride]
        return view.clone() if own else view
    if own and stride == 1:
        return torch.stack(alike).reshape(len(alike), -1)
    if own or (stride > 1 and numel > STACK_SMALL):
        return torch.stack([t.detach().reshape(-1)[::stride] for t in alike])
    block = _scratch.take("block", len(alike), alike[0])
    torch.stack(alike, out=block.view(len(alike), *alike[0].shape))
    return block[:, ::stride]


@torch.no_grad()
def moments(tensors: Sequence[Tensor], limit: int | None = None) -> Tensor:
    """The five :data:`MOMENTS` of each tensor: shape ``[n, 5]``, float64, on the CPU.

    Args:
        tensors: any real, complex, sparse or half-precision tensors; shapes may differ.
        limit: larger tensors are estimated from an evenly strided sample of about this many elements.

    Example:
        >>> moments([torch.tensor([3.0, -4.0, 0.0])]).tolist()
        [[7.0, 5.0, -1.0, 4.0, 1.0]]
    """
    pieces, order, shares = [], [], []
    for members, block in blocks(tensors, limit):
        magnitude = torch.abs(block, out=_scratch.take("magnitude", len(block), block[0]))
        rows = [
            magnitude.sum(1),
            torch.linalg.vector_norm(block, dim=1),
            block.sum(1),
            magnitude.amax(1),
            # Counting through sign() is an order of magnitude faster than comparing and counting booleans.
            magnitude.sign_().sum(1),
        ]
        pieces.append(torch.stack(rows))
        order += members
        shares += [(numel_of(tensors[members[0]]), block.shape[1])] * len(members)
    out = np.zeros((len(tensors), len(MOMENTS)))
    if order:
        found, (whole, part) = _joined(pieces).T, np.array(shares, dtype=np.float64).T
        found[:, 4] = part - found[:, 4]
        out[order] = found * _upscaled(whole / part)
    suspicious = ~np.isfinite(out).all(1) | ((out[:, 3] > 0) & (out[:, 3] < UNDERFLOW))
    if suspicious.any():
        _rescue(tensors, out, suspicious.nonzero()[0].tolist(), limit)
    return torch.from_numpy(out)


def _joined(pieces: Sequence[Tensor]) -> NDArray[np.float64]:
    """Results of several blocks, side by side on the host: one copy from each device."""
    if any(p.device != pieces[0].device for p in pieces):
        pieces = [p.cpu() for p in pieces]
    return torch.cat(list(pieces), dim=-1).cpu().numpy().astype(np.float64)


def _upscaled(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the moments of a sample must be multiplied with, ``share`` being the whole by the sample."""
    factors = {"sum": share, "root-sum-square": np.sqrt(share), "max": np.ones_like(share)}
    return np.stack([factors[m.across_ranks] for m in MOMENTS], axis=1)


def numel_of(tensor: Tensor) -> int:
    """How many real numbers :func:`plain` gives."""
    return tensor.numel() if tensor.layout == torch.strided and not tensor.is_complex() else plain(tensor).numel()


def _rescue(tensors: Sequence[Tensor], out: NDArray[np.float64], rows: Sequence[int], limit: int | None) -> None:
    """Redo in float64 what overflowed float32 (the square of a finite 1e20 does not fit), underflowed, or met a NaN."""
    for row in rows:
        flat = plain(tensors[row])
        wide = (thinned(flat, limit) if limit is not None else flat).double()
        share = flat.numel() / wide.numel()
        out[row, 4] = float((wide == 0).sum()) * share
        out[row, 0] = float(torch.linalg.vector_norm(wide, 1)) * share
        out[row, 1] = float(torch.linalg.vector_norm(wide, 2)) * share**0.5
        out[row, 2] = float(wide.sum()) * share


@torch.no_grad()
def norms(tensors: Sequence[Tensor]) -> Tensor:
    """L2 norm of each tensor: shape ``[n]``, float32 (float64 where an input is float64), one device.

    Uses the very kernels of ``torch.nn.utils.clip_grad_norm_`` on ordinary gradients, so the two agree to the bit.
    """
    if not tensors:
        return torch.zeros(0, device="cpu")
    usual = {t.dtype for t in tensors} == {torch.float32} and {t.layout for t in tensors} == {torch.strided}
    values = list(tensors) if usual else [plain(t) for t in tensors]
    device = values[0].device
    result = torch._foreach_norm(values)
    if len({v.device for v in values}) == 1 and (usual or len({v.dtype for v in values}) == 1):
        return torch.stack(result)
    return torch.stack([r.to(device, torch.float64) for r in result])


@torch.no_grad()
def safe_norms(tensors: Sequence[Tensor]) -> Tensor:
    """As :func:`norms` in float64, right where squares overflow float32. Slower; for suspicious steps only."""
    return moments(tensors)[:, 1] if tensors else torch.zeros(0, dtype=torch.float64, device="cpu")


@torch.no_grad()
def on_host(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Real tensors on the CPU, of any shape: one copy from each device, however many there are."""
    out = list(tensors)
    for device in {t.device for t in out} - {torch.device("cpu")}:
        rows = [i for i, t in enumerate(out) if t.device == device]
        joined = torch.cat([out[i].detach().reshape(-1) for i in rows]).cpu()
        parts = torch.split(joined, [out[i].numel() for i in rows])
        for i, part in zip(rows, parts, strict=True):
            out[i] = part.reshape(out[i].shape)
    return out


@torch.no_grad()
def dead_shares(outputs: Sequence[Tensor]) -> list[float]:
    """The share of each output's units that are zero or below for the whole batch.

    Args:
        outputs: ``[N, C, H, W]`` (units are channels) or ``[..., U]`` (units are columns), none of them empty.
    """
    groups: dict[tuple[torch.Size, torch.dtype], list[int]] = {}
    for i, out in enumerate(outputs):
        groups.setdefault((out.shape if out.numel() <= STACK_SMALL else torch.Size([i]), out.dtype), []).append(i)
    shares = [0.0] * len(outputs)
    for members in groups.values():
        alike = [outputs[i].detach() for i in members]
        peaks = unit_peaks(torch.stack(alike) if len(alike) > 1 else alike[0].unsqueeze(0))
        for i, share in zip(members, (peaks <= 0).float().mean(1).tolist(), strict=True):
            shares[i] = share
    return shares


def unit_peaks(outputs: Tensor) -> Tensor:
    """``[g, U]``: the largest output of each unit over the batch, of ``g`` outputs stacked along the first axis."""
    if outputs.dim() >= 5:
        return outputs.flatten(3).amax((1, 3))
    return outputs.reshape(len(outputs), -1, outputs.shape[-1]).amax(1)


@torch.no_grad()
def shares_beyond(tensors: Sequence[Tensor], limit: float, sample: int) -> list[float]:
    """The share of each tensor's elements with ``|x| > limit``, from about ``sample`` of them."""
    shares = [math.nan] * len(tensors)
    for members, block in blocks(tensors, sample):
        beyond = torch.abs(block, out=_scratch.take("magnitude", len(block), block[0])).gt_(limit)  # 1.0 or 0.0
        for i, share in zip(members, beyond.mean(1).tolist(), strict=True):
            shares[i] = share
    return shares


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Copies of tensors, whole or thinned, and the tensors' L2 norms ``[n]`` (float64)."""

    blocks: list[tuple[list[int], Tensor]]
    norms: Tensor


def thinned(tensor: Tensor, limit: int = UPDATE_SAMPLE) -> Tensor:
    """The tensor flat, or evenly strided down to about ``limit`` elements. The stride is odd: no column is favoured."""
    flat = plain(tensor)
    return flat[:: (flat.numel() // limit) | 1] if flat.numel() > limit else flat


@torch.no_grad()
def snapshot(tensors: Sequence[Tensor]) -> Snapshot:
    """Copies to measure a later change against: whole, or an evenly strided :data:`UPDATE_SAMPLE` of larger tensors."""
    kept = list(blocks(tensors, UPDATE_SAMPLE, own=True))
    return Snapshot(kept, _row_norms(tensors, kept))


@torch.no_grad()
def change(before: Snapshot, tensors: Sequence[Tensor]) -> Tensor:
    """L2 norm of each tensor's change since ``before``: shape ``[n]``, float64; estimated where a sample was kept.

    NaN for a tensor that was given another shape, type or device in between.
    """
    then = {tuple(members): block for members, block in before.blocks}
    moved = (
        (members, torch.sub(block, then[key], out=_scratch.take("change", len(block), block[0])))
        for members, block in blocks(tensors, UPDATE_SAMPLE)
        if (key := tuple(members)) in then and then[key].shape == block.shape
    )
    return _row_norms(tensors, moved)


def _row_norms(tensors: Sequence[Tensor], rows: Iterable[tuple[list[int], Tensor]]) -> Tensor:
    """Norms of the rows of blocks; 0 for empty tensors, NaN for those that are not among the blocks."""
    out = np.array([0.0 if t.numel() == 0 else math.nan for t in tensors])
    order, share, found = [], [], []
    for members, block in rows:
        order += members
        share += [numel_of(tensors[members[0]]) / block.shape[1]] * len(members)
        found.append(torch.linalg.vector_norm(block, dim=1))
    if order:
        out[order] = _joined(found) * np.sqrt(share)
    return torch.from_numpy(out)
