"""Running statistics of normalisation layers: the forward pass writes them before anyone knows that a batch is bad."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class RunningStatistics:
    """Copies of BatchNorm's running mean, variance and count from before the batch, to go back to on a skip.

    One NaN in a batch makes the running mean NaN for ever, although training goes on as if nothing had happened: it is
    only used in evaluation.

    Args:
        models: searched for layers that keep running statistics. Their other buffers are left alone.
    """

    def __init__(self, models: Iterable[nn.Module]) -> None:
        layers = {id(m): m for model in models for m in model.modules() if getattr(m, "track_running_stats", False)}
        self._layers = list(layers.values())
        self._copies: list[Tensor] = []
        self.keep()

    def _buffers(self) -> list[Tensor]:
        return [b for layer in self._layers for b in layer.buffers(recurse=False)]

    def keep(self) -> None:
        """The statistics are good as they are now: what follows can go back to them."""
        if self._layers:
            self._keep(self._buffers())

    @torch.no_grad()
    def _keep(self, buffers: list[Tensor]) -> None:
        if len(buffers) == len(self._copies) and all(_alike(a, b) for a, b in zip(self._copies, buffers, strict=True)):
            if buffers:
                torch._foreach_copy_(self._copies, buffers)
        else:
            self._copies = [b.clone() for b in buffers]

    @torch.no_grad()
    def restore(self) -> None:
        """Go back to the copies."""
        for buffer, copy in zip(self._buffers(), self._copies, strict=True):
            buffer.copy_(copy)

    @torch.no_grad()
    def restore_where(self, bad: Tensor) -> None:
        """Go back where the 0-dim flag on the device says so."""
        for buffer, copy in zip(self._buffers(), self._copies, strict=True):
            buffer.copy_(torch.where(bad.to(buffer.device), copy, buffer))


def _alike(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.device == b.device
