"""Run a model on a batch to look at it, and leave it as it was found.

Restored afterwards, whatever happens in between: parameters' gradients, buffers (running statistics among them), the
train/eval flag of every module, and the random state of torch, NumPy and Python. What a model counts in plain Python
attributes cannot be.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from steadygrad.errors import InputError

#: How to call a model on a batch, where :func:`feed` does not guess right.
Forward = Callable[[nn.Module, Any], Any]
_NORMS = (nn.modules.batchnorm._NormBase,)


def feed(model: nn.Module, batch: Any, forward: Forward | None = None) -> Any:
    """Call the model on a batch: a tensor as it is, a mapping as keywords, the first element of a tuple or list.

    The last is what a loader of (input, target) pairs needs, and ``torch.optim.swa_utils.update_bn`` does. Anything
    else is said by ``forward=lambda model, batch: ...``.

    Raises:
        InputError: an empty tuple or list.

    Example:
        >>> feed(nn.Identity(), (torch.ones(2), "target")).tolist()
        [1.0, 1.0]
    """
    if forward is not None:
        return forward(model, batch)
    if isinstance(batch, Mapping):
        return model(**batch)
    if isinstance(batch, tuple | list):
        if not batch:
            raise InputError("a batch must hold the model's input; received an empty tuple or list")
        return model(batch[0])
    return model(batch)


def tensors(value: Any) -> list[Tensor]:
    """Every floating-point tensor in a model's output: tensors, sequences, mappings and dataclass-like objects.

    Example:
        >>> len(tensors({"logits": torch.ones(1), "rest": [torch.ones(2), torch.ones(1, dtype=torch.int64), None]}))
        2
    """
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, Mapping):
        return [t for v in value.values() for t in tensors(v)]
    if isinstance(value, tuple | list):
        return [t for v in value for t in tensors(v)]
    return [t for v in vars(value).values() for t in tensors(v)] if hasattr(value, "__dict__") else []


def calm(model: nn.Module) -> None:
    """Evaluation mode for everything but norm layers with running statistics: no dropout, yet norms as they train."""
    for module in model.modules():
        if not isinstance(module, _NORMS):
            module.training = False


@contextlib.contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Restore flags, buffers, gradients and random states when the block ends, also by an exception.

    Example:
        >>> layer = nn.BatchNorm1d(2)
        >>> with undisturbed(layer):
        ...     _ = layer.eval(), layer.running_mean.add_(1)
        >>> layer.training, layer.running_mean.tolist()
        (True, [0.0, 0.0])
    """
    flags = [(module, module.training) for module in model.modules()]
    buffers = [(module, key, b, None if b is None else b.clone()) for module, key, b in _buffers(model)]
    grads = [(parameter, parameter.grad) for parameter in model.parameters()]
    with random_state(model):
        try:
            for parameter, _ in grads:
                parameter.grad = None
            yield
        finally:
            for module, flag in flags:
                module.training = flag
            with torch.no_grad():
                for module, key, buffer, kept in buffers:
                    if buffer is not None and kept is not None:
                        buffer.copy_(kept)
                    module._buffers[key] = buffer
            for parameter, grad in grads:
                parameter.grad = grad


def _buffers(model: nn.Module) -> Iterator[tuple[nn.Module, str, Tensor | None]]:
    for module in model.modules():
        for key, buffer in module._buffers.items():
            yield module, key, buffer


@contextlib.contextmanager
def random_state(model: nn.Module) -> Iterator[None]:
    """Restore the random state of torch (on the devices of the model), NumPy and Python when the block ends."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = {t.device for t in (*model.parameters(), *model.buffers()) if t.device.type not in ("cpu", "meta")}
    kinds = {d.type for d in devices}
    try:
        with contextlib.ExitStack() as stack:
            for kind in kinds or {"cuda"}:
                here = [d for d in devices if d.type == kind]
                stack.enter_context(torch.random.fork_rng(devices=here, device_type=kind))
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
