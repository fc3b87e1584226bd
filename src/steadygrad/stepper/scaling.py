"""What a GradScaler is told, and when: once per step, and nothing at all about steps that it is not to blame for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer

from steadygrad.errors import InputError
from steadygrad.guard.verdict import blamed


class Scaling:
    """A GradScaler, or none: then everything here passes through.

    The scale is halved by the scaler itself, and only where the loss was finite and its gradients were not: that is
    what too large a scale looks like. A loss that is not finite by itself would be so at any scale.
    """

    def __init__(self, scaler: GradScaler | None) -> None:
        if scaler is not None and type(scaler).__name__ == "ShardedGradScaler":
            raise InputError(
                "ShardedGradScaler decides on each rank alone when the optimizer is fused; "
                "with fully_shard (FSDP2) use torch.amp.GradScaler"
            )
        self._scaler = scaler if scaler is not None and scaler.is_enabled() else None

    @property
    def active(self) -> bool:
        """Whether losses are scaled."""
        return self._scaler is not None

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss to call backward on."""
        return loss if self._scaler is None else self._scaler.scale(loss)

    def unscale(self, optimizers: Sequence[Optimizer]) -> None:
        """Divide the gradients by the scale, once. Optimizers without any gradient have nothing to unscale."""
        if self._scaler is not None:
            for optimizer in optimizers:
                self._scaler.unscale_(optimizer)

    def reason(self, reason: str) -> str:
        """What the scale is to blame for, under its own name. Reads the scale only where it may be."""
        return blamed(reason, self._scaler.get_scale()) if reason and self._scaler is not None else reason

    @property
    def scale(self) -> Tensor | None:
        """The scale on its device; None without a scaler."""
        return self._scaler._scale if self._scaler is not None else None

    def update(self) -> None:
        """The step is over: grow or back off, as the scaler does."""
        if self._scaler is not None:
            self._scaler.update()

    def hold(self) -> None:
        """The step is over, and it says nothing about the scale: scale and growth stay as they are, bit for bit."""
        if self._scaler is not None and self._scaler._scale is not None:
            self._scaler.update(self._scaler._scale.clone())

    def update_unless(self, bad_loss: Tensor) -> None:
        """As :meth:`update`, or :meth:`hold` where the 0-dim flag on the device says so."""
        if self._scaler is not None:
            kept = self._state()
            before = [t.clone() for t in kept]
            self._scaler.update()
            for now, old in zip(kept, before, strict=True):
                now.copy_(torch.where(bad_loss.to(now.device), old, now))

    def _state(self) -> list[Tensor]:
        assert self._scaler is not None
        return [t for t in (self._scaler._scale, self._scaler._growth_tracker) if t is not None]
