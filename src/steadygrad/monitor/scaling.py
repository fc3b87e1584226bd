"""Loss scaling: the losses behind scaled ones, the scale, and whether a step was skipped."""

from __future__ import annotations

import math
import weakref
from typing import Any

import torch
from torch import Tensor

from steadygrad.monitor.state import Pending
from steadygrad.records import Amp


class Scaling:
    """What a GradScaler showed. ``active`` from its first use on."""

    def __init__(self) -> None:
        self._scale = math.nan
        self._scaler: Any = None  # that has scaled since its scale was read
        self.step_is_open = False
        self._losses: dict[int, tuple[weakref.ref[Tensor], Tensor]] = {}

    @property
    def active(self) -> bool:
        """Whether the script scales its losses."""
        return self._scaler is not None or not math.isnan(self._scale)

    @property
    def scale(self) -> float:
        """The loss scale of this step. Read when it is asked for: a device may be at the forward pass still."""
        if self._scaler is not None:
            self._scale, self._scaler = float(self._scaler.get_scale()), None
        return self._scale

    def scaled(self, loss: Any, out: Any, scaler: Any) -> None:
        """A GradScaler scaled a loss: remember the loss itself until the step ends."""
        self._scaler = scaler
        if isinstance(loss, Tensor) and isinstance(out, Tensor):
            self._losses[id(out)] = (weakref.ref(out), loss.detach())

    def loss_behind(self, root: Tensor) -> Tensor:
        """The loss as the script computed it."""
        kept = self._losses.get(id(root))
        return kept[1] if kept is not None and kept[0]() is root else root

    def amp(self, optimizer: Any) -> Amp | None:
        """State at an optimizer's step. Where others are skipped, a fused one steps, told to do nothing."""
        self.step_is_open = False
        self._losses.clear()
        if not self.active:
            return None
        flag = getattr(optimizer, "found_inf", None)
        return Amp(self.scale, isinstance(flag, Tensor) and float(flag) > 0)

    def clipped_too_early(self, norms: Tensor, pending: Pending) -> bool:
        """Whether the norm seen by a clip was still multiplied by the loss scale. ``norms`` are those before it."""
        clip = pending.clips.summary
        if not self.active or clip is None or clip.kind != "norm" or not clip.coefficient > 0:
            return False
        before = float(torch.linalg.vector_norm(norms))
        return self.scale > 16 and before > 0 and clip.norm > 0.5 * self.scale * before
