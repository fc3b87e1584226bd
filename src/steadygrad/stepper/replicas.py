"""Data-parallel models: when a backward pass is to reduce gradients, and what all processes must agree on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from steadygrad.errors import InputError


class Replicas:
    """The data-parallel parts of the models being trained; without any, nothing here does anything.

    Args:
        models: the models as they are called in the training loop, wrapped.
        accumulate: micro-batches per step.

    Raises:
        InputError: a model is wrapped in the old FullyShardedDataParallel.
    """

    def __init__(self, models: Iterable[nn.Module], accumulate: int) -> None:
        parts = [part for model in models for part in model.modules()]
        self.ddp = [part for part in parts if isinstance(part, DistributedDataParallel)]
        self.fsdp: list[Any] = [part for part in parts if hasattr(part, "set_requires_gradient_sync")]
        old = [part for part in parts if type(part).__name__ == "FullyShardedDataParallel"]
        if old:
            raise InputError(
                "the model is wrapped in FullyShardedDataParallel, whose gradients are flat local pieces: their norm "
                "and a decision about them would differ from rank to rank; wrap it with fully_shard (FSDP2)"
            )
        self._unreduced = False
        self._accumulate = accumulate
        self.next_reduces(accumulate == 1)

    @property
    def any(self) -> bool:
        """Whether there is any data-parallel model."""
        return bool(self.ddp or self.fsdp)

    def next_reduces(self, wanted: bool) -> None:
        """Say whether the backward of the next forward pass is to reduce gradients over the processes.

        DistributedDataParallel decides in the forward pass, which comes before :meth:`Stepper.step` is called: so it is
        told one micro-batch ahead.
        """
        if self._accumulate > 1:
            for part in self.ddp:
                part.require_backward_grad_sync = wanted
            self._unreduced = not wanted

    def before_backward(self, boundary: bool) -> None:
        """FSDP2 decides in the backward pass."""
        if self._accumulate > 1:
            for part in self.fsdp:
                part.set_requires_gradient_sync(boundary, recurse=False)

    def reduce_late(self, gradients: Sequence[Tensor]) -> None:
        """Average gradients whose forward pass did not know that it was the last of its step."""
        if not (self.ddp and self._unreduced):
            return
        group = self.ddp[0].process_group
        for gradient in gradients:
            dist.all_reduce(gradient, group=group)
        torch._foreach_div_(list(gradients), dist.get_world_size(group))

    def mean(self, loss: Tensor) -> Tensor:
        """The loss averaged over the processes: not finite anywhere is not finite everywhere, so all decide alike."""
        group = self._group()
        if group is None or dist.get_world_size(group) == 1:
            return loss
        total = loss.detach().clone()
        dist.all_reduce(total, group=group)
        return total / dist.get_world_size(group)

    def _group(self) -> dist.ProcessGroup | None:
        if self.ddp:
            return self.ddp[0].process_group
        return dist.group.WORLD if self.fsdp and dist.is_initialized() else None
