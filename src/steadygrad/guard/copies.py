"""Copies of everything an optimizer step changes, and putting them back bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

_HOST = torch.device("cpu")


def local(tensor: Tensor) -> Tensor:
    """The part of a sharded tensor that lives here; any other tensor itself."""
    return tensor.to_local() if type(tensor).__name__ == "DTensor" else tensor  # type: ignore[attr-defined]


def copied(value: Any, device: torch.device | None = None) -> Any:
    """A copy that shares nothing with the original. Tensors go to ``device``; None leaves each where it is."""
    if isinstance(value, Tensor):
        mine = local(value.detach())
        return mine.to(device, copy=True) if device is not None else mine.clone()
    if isinstance(value, dict):
        return {key: copied(item, device) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(copied(item, device) for item in value)
    return copy.deepcopy(value)


def put_back(now: Any, kept: Any) -> Any:
    """``kept`` in the place of ``now``: written into the same tensor where there is one of its kind.

    Others may hold that tensor (a captured graph, a foreach list), so it must stay the same object.
    """
    if isinstance(now, Tensor) and isinstance(kept, Tensor):
        mine = local(now)
        if mine.shape == kept.shape and mine.dtype == kept.dtype:
            with torch.no_grad():
                mine.copy_(kept)
            return now
    device = now.device if isinstance(now, Tensor) else None
    return copied(kept, device)


class TensorCopies:
    """Copies of tensors that keep their identity: parameters and buffers."""

    def __init__(self, tensors: Iterable[Tensor], device: torch.device | None = None) -> None:
        self.pairs = [(t, copied(t, device)) for t in tensors]

    def restore(self) -> None:
        """Write them back."""
        for tensor, kept in self.pairs:
            with torch.no_grad():
                local(tensor.detach()).copy_(kept)


class OptimizerCopy:
    """An optimizer's state and the options of its groups, rates included.

    ``state_dict`` is not used: loading one casts state to the parameter's type, which is not the same bits for
    optimizers that keep float32 moments of half-precision parameters.
    """

    def __init__(self, optimizer: Optimizer, device: torch.device | None = None) -> None:
        self._optimizer = optimizer
        self.state = [(p, copied(dict(state), device)) for p, state in optimizer.state.items()]
        self._groups = [_options(group) for group in optimizer.param_groups]

    def restore(self) -> None:
        """Put everything back; state that did not exist then is dropped."""
        held = self._optimizer.state
        for parameter in held.keys() - {p for p, _ in self.state}:
            del held[parameter]
        for parameter, kept in self.state:
            now = held[parameter]
            fresh = {name: put_back(now.get(name), value) for name, value in kept.items()}
            now.clear()
            now.update(fresh)
        for group, options in zip(self._optimizer.param_groups, self._groups, strict=False):
            for name in group.keys() - options.keys() - {"params"}:
                del group[name]
            group.update({name: put_back(group.get(name), value) for name, value in options.items()})


def _options(group: dict[str, Any]) -> dict[str, Any]:
    return {name: copied(value) for name, value in group.items() if name != "params"}


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors of a nested copy."""
    if isinstance(value, Tensor):
        return [value]
    items: Iterable[Any] = (
        value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    )
    return [tensor for item in items for tensor in tensors_in(item)]


def finite(tensors: Sequence[Tensor]) -> bool:
    """Whether every number of these is finite. Reads them once, on whatever device they are."""
    return all(bool(torch.isfinite(t).all()) for t in tensors if t.is_floating_point() or t.is_complex())
