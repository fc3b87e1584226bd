"""Copies of everything an optimizer step changes, and putting them back bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


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


@torch.no_grad()
def put_back(now: Any, kept: Any) -> Any:
    """``kept`` in the place of ``now``: written into the same tensor where there is one of its kind.

    Others may hold that tensor (a captured graph, a foreach list), so it must stay the same object.
    """
    if isinstance(now, Tensor) and isinstance(kept, Tensor):
        mine = local(now.detach())
        if mine.shape == kept.shape and mine.dtype == kept.dtype:
            mine.copy_(kept)
            return now
    return copied(kept, now.device if isinstance(now, Tensor) else None)


def put_all_back(now: Sequence[Tensor], kept: Sequence[Tensor]) -> None:
    """Write copies back into the tensors they were taken of."""
    for tensor, old in zip(now, kept, strict=True):
        put_back(tensor, old)


def parameters(optimizer: Optimizer) -> list[Tensor]:
    """All parameters of an optimizer, in the order of its groups."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def optimizer_state(optimizer: Optimizer, device: torch.device | None = None) -> dict[str, Any]:
    """An optimizer's state by number of parameter, and the options of its groups, rates included.

    ``state_dict`` is not used: loading one casts state to the parameter's type, which is not the same bits for
    optimizers that keep float32 moments of half-precision parameters.
    """
    held = optimizer.state
    return {
        "state": {i: copied(dict(held[p]), device) for i, p in enumerate(parameters(optimizer)) if held.get(p)},
        "groups": [{k: copied(v) for k, v in group.items() if k != "params"} for group in optimizer.param_groups],
    }


def restore_optimizer(optimizer: Optimizer, kept: dict[str, Any], *, options: bool = True) -> None:
    """Put an optimizer's state back; state that did not exist then is dropped.

    Args:
        options: also those of the groups. Not where a scheduler goes on from the present rate.
    """
    for i, parameter in enumerate(parameters(optimizer)):
        if i not in kept["state"]:
            optimizer.state.pop(parameter, None)
            continue
        now = optimizer.state[parameter]
        fresh = {name: put_back(now.get(name), value) for name, value in kept["state"][i].items()}
        now.clear()
        now.update(fresh)
    if options:
        for group, old in zip(optimizer.param_groups, kept["groups"], strict=True):
            for name in group.keys() - old.keys() - {"params"}:
                del group[name]
            group.update({name: put_back(group.get(name), value) for name, value in old.items()})


def tensors_in(value: Any) -> list[Tensor]:
    """All tensors of a nested copy."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return tensors_in(list(value.values()))
    items = value if isinstance(value, list | tuple) else ()
    return [tensor for item in items for tensor in tensors_in(item)]


def finite(tensors: Sequence[Tensor]) -> bool:
    """Whether every number of these is finite. Reads them once."""
    return all(bool(torch.isfinite(t).all()) for t in tensors if t.is_floating_point() or t.is_complex())
