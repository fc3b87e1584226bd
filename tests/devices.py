"""Devices that no machine lacks: tensors that say they are elsewhere, compute on the CPU, and forbid what devices do.

``lazy`` is a device type that torch knows and this build has no backend for. An operation on tensors of two devices is
an error, as on real ones (a 0-dim CPU tensor may join any). So is, inside :meth:`Devices.unread`, whatever would make
the host wait: reading a number, copies to the host, and from it unless ``non_blocking``, shapes that depend on values.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten
CPU, ONE, OTHER = torch.device("cpu"), torch.device("lazy:0"), torch.device("lazy:1")
COPIES = {aten._to_copy, aten.copy_, aten._foreach_copy_}
INDEXING = {aten.index, aten.index_put, aten.index_put_}
READS = {aten._local_scalar_dense, aten.nonzero, aten.equal, aten.masked_select, aten._unique2}


class Elsewhere(Tensor):
    """A tensor of another device, with its numbers in :attr:`inner`."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor, device: torch.device) -> Elsewhere:
        made = Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=device, requires_grad=False,
        )  # fmt: skip
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class Devices(TorchDispatchMode):
    """Where the devices exist. Tensors get there by ``.to(ONE)``."""

    may_wait = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    @contextlib.contextmanager
    def unread(self) -> Iterator[None]:
        """Inside, the host must not wait for a device."""
        Devices.may_wait = False
        try:
            yield
        finally:
            Devices.may_wait = True


class HostReadError(AssertionError):
    """The host would have waited for a device."""


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
    places = {t.device for t in given if t.dim() or t.device != CPU}
    packet = func.overloadpacket
    if len(places) > 1 and packet not in COPIES:
        raise RuntimeError(f"Expected all tensors to be on the same device, but {func} got {places}")
    away = {t.device for t in given} - {CPU}
    home = torch.device(kwargs["device"]) if kwargs.get("device") is not None else None
    if not Devices.may_wait and ((away and _depends_on_values(packet, args)) or _waits(packet, args, kwargs)):
        raise HostReadError(f"{func} waits for the device")
    known = {id(t.inner): t for t in given if isinstance(t, Elsewhere)}
    if home is not None:
        kwargs = {**kwargs, "device": CPU}
    elif packet in COPIES:
        home = _written(args).device
    else:
        home = next(iter(away), CPU)
    out = func(*_unwrapped(args), **_unwrapped(kwargs))
    if home == CPU:
        return out

    def wrapped(t: Any) -> Any:
        if not isinstance(t, Tensor):
            return t
        return known[id(t)] if id(t) in known else Elsewhere(t, home)  # in place: the same tensor comes back

    return tree_map(wrapped, out)


def _depends_on_values(packet: Any, args: Any) -> bool:
    """Whether a result, or only its shape, is not known to the host before the device has computed it."""
    by_mask = packet in INDEXING and any(i is not None and i.dtype == torch.bool for i in args[1])
    return packet in READS or by_mask


def _waits(packet: Any, args: Any, kwargs: dict[str, Any]) -> bool:
    """Whether a copy makes the host wait: all to it do, and those from it that are not asked to be asynchronous."""
    if packet is aten._to_copy:
        source, target = args[0].device, torch.device(kwargs.get("device") or args[0].device)
    elif packet is aten.copy_:
        target, source = args[0].device, args[1].device
    else:
        return False
    asynchronous = kwargs.get("non_blocking", len(args) > 2 and args[2])
    return source != target and (target == CPU or (source == CPU and not asynchronous))


def _written(args: Any) -> Tensor:
    """What a copy goes to; for a list the first of them, all being of one device."""
    return args[0][0] if isinstance(args[0], list | tuple) else args[0]


def _unwrapped(value: Any) -> Any:
    return tree_map(lambda t: t.inner if isinstance(t, Elsewhere) else t, value)
