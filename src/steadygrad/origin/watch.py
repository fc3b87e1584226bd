"""Follows every operation of a replay and tells which one made the first non-finite value."""

from __future__ import annotations

import linecache
import os
import re
import sys
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from steadygrad.frames import foreign, place, user_frame
from steadygrad.naming import Registry

_ENTRY = re.compile(r'\s*File "(?P<path>.*?)", line (?P<line>\d+)[^\n]*\n(?P<code>[^\n]*)')
#: Operations that only pass values on: they are never the origin.
_PASSIVE = ("detach", "view", "expand", "t", "transpose", "permute", "alias", "clone", "_to_copy", "select", "slice",
            "unsqueeze", "squeeze", "cat", "stack", "reshape", "_unsafe_view", "as_strided", "copy_", "empty", "where",
            "full_like", "empty_like", "lift_fresh", "split", "unbind", "index", "masked_fill", "masked_fill_", "fill_",
            "full", "ones", "zeros", "scalar_tensor", "new_full")  # fmt: skip


class OperationWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows non-finite values from the operation that made them to every result they reach.

    A mask of -inf that a softmax turns into zeros is no fault; so values are followed, and only what reaches the loss
    counts. A constant (a mask written with -inf) is no origin; the operation that makes NaN of it is.
    """

    def __init__(self, registry: Registry) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._registry = registry
        self._tainted: dict[int, tuple[Tensor, dict[str, Any] | None]] = {}
        self._first: dict[str, Any] | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        bad = [t for t in _float_tensors(out) if not finite(t)]
        if bad:
            origin = self._origin(func.overloadpacket.__name__, _float_tensors((args, kwargs)), bad[0], args)
            self._first = self._first or origin
            for tensor in bad:
                self._tainted[id(tensor)] = (tensor, origin)
        return out

    def _origin(self, name: str, inputs: list[Tensor], out: Tensor, args: Any) -> dict[str, Any] | None:
        held = [self._tainted[id(t)] for t in inputs if id(t) in self._tainted and self._tainted[id(t)][0] is t]
        inherited = next((origin for _, origin in held if origin is not None), None)
        if inherited is not None or name in _PASSIVE:
            return inherited
        spoiled = [t for t in inputs if not finite(t)]
        if spoiled and (bool(torch.isnan(torch.cat([t.flatten() for t in spoiled])).any()) or not _has_nan(out)):
            return None  # a constant passed on: the data itself, or a mask
        return self._describe(name, inputs, out, args)

    def origin_of(self, values: list[Tensor]) -> dict[str, Any] | None:
        """Where the first non-finite one of these values came from."""
        for value in values:
            entry = self._tainted.get(id(value))
            if entry is not None and entry[1] is not None:
                return entry[1]
        return self._first

    def _describe(self, name: str, inputs: list[Tensor], out: Tensor, args: Any) -> dict[str, Any]:
        frame = user_frame(3)
        node = torch._C._current_autograd_node()
        found: dict[str, Any] = {"found": True, "op": name, "inputs": _ranges(inputs)}
        found["dtype"] = str(out.dtype).removeprefix("torch.")
        found["result"] = "nan" if _has_nan(out) else "inf"
        found["scalars"] = [a for a in tree_leaves(args) if isinstance(a, int | float) and not isinstance(a, bool)][:4]
        if frame is not None:
            found["source"] = place(frame)
            found["code"] = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        found["module"] = self._module()
        return found | _forward_place(node) if node is not None else found

    def _module(self) -> str:
        """Name of the innermost module whose forward is on the Python stack."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            names = frame.f_code.co_varnames
            owner = frame.f_locals.get(names[0]) if frame.f_code.co_name == "forward" and names else None
            if isinstance(owner, nn.Module) and self._registry.knows(owner):
                return self._registry.name_of(owner)
            frame = frame.f_back
        return ""


def _float_tensors(value: Any) -> list[Tensor]:
    return [t for t in tree_leaves(value) if isinstance(t, Tensor) and (t.is_floating_point() or t.is_complex())]


def finite(value: Any) -> bool:
    """Whether every number in the tensors of a (nested) value is finite."""
    return all(bool(torch.isfinite(t).all()) for t in _float_tensors(value) if t.numel())


def _has_nan(tensor: Tensor) -> bool:
    return bool(torch.isnan(tensor).any())


def _ranges(inputs: list[Tensor]) -> list[dict[str, Any]]:
    """Shape and range of each input, for the evidence."""
    found = []
    for tensor in inputs[:4]:
        flat = (tensor.detach().abs() if tensor.is_complex() else tensor.detach()).float()
        real = flat[torch.isfinite(flat)]
        row: dict[str, Any] = {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
        row["nonfinite"] = int(flat.numel() - real.numel())
        if real.numel():
            row |= {"min": float(real.min()), "max": float(real.max()), "absmin": float(real.abs().min())}
        found.append(row)
    return found


def _forward_place(node: Any) -> dict[str, Any]:
    """The user's line that called the forward operation of a backward node (kept by anomaly mode)."""
    metadata = getattr(node, "metadata", {}) if node is not None else {}
    found: dict[str, Any] = {}
    if node is not None:
        found["op"] = node.name().split("Backward")[0].lower()
    for entry in reversed(metadata.get("traceback_", [])):
        match = _ENTRY.match(entry)
        if match is not None and not foreign(match["path"]):
            return found | {
                "source": f"{os.path.basename(match['path'])}:{match['line']}",
                "code": match["code"].strip(),
            }
    return found
