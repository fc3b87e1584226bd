"""Small tensors updated together: torch's ``foreach`` update, where it gives the very same numbers in less time.

On the CPU torch updates one tensor after the other unless told otherwise, in Python: with many small tensors that takes
longer than the arithmetic. The same operations in the same order on lists of tensors give the same bits. Large tensors
are better left alone: one after the other, each stays in the cache for all the operations on it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, Optimizer, RMSprop, Rprop

from steadygrad.clip.gradients import Gradients
from steadygrad.stepper.folding import alike

#: Both ways give the same bits. NAdam, RAdam and ASGD round differently.
SAME_BITS = (SGD, Adam, AdamW, RMSprop, Adagrad, Adadelta, Adamax, Rprop)
#: Elements of a tensor, on average, up to which lists are faster, and how many tensors it takes.
SMALL, MANY = 4096, 8
_BOTH_WAYS = frozenset({torch.float32, torch.float64})


@contextlib.contextmanager
def together(optimizer: Optimizer, gradients: Gradients) -> Iterator[None]:
    """For one step, where that changes nothing but its time. The groups get their own setting back.

    Args:
        optimizer: about to step.
        gradients: all of its gradients; those of other optimizers may be among them.
    """
    chosen = optimizer.param_groups if _small(gradients) and _left_to_torch(optimizer) else []
    try:
        for group in chosen:
            group["foreach"] = True
        yield
    finally:
        for group in chosen:
            group["foreach"] = None


def _small(gradients: Gradients) -> bool:
    tensors = gradients.tensors
    return (
        len(tensors) >= MANY
        and sum(map(Tensor.numel, tensors)) <= SMALL * len(tensors)
        and alike(gradients)
        and all(t.dtype in _BOTH_WAYS and t.device.type == "cpu" for t in tensors)
    )


def _left_to_torch(optimizer: Optimizer) -> bool:
    return type(optimizer) in SAME_BITS and all(map(_is_ordinary, optimizer.param_groups))


def _is_ordinary(group: dict[str, Any]) -> bool:
    """Whether nobody has chosen how to update, and every setting is a number: a list of tensors takes no others."""
    chosen = "foreach" not in group or group["foreach"] is not None or group.get("fused") is not None
    numbers = [group["lr"], *group.get("betas", ())]
    return not (chosen or group.get("capturable") or group.get("differentiable") or any(map(_is_tensor, numbers)))


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)
