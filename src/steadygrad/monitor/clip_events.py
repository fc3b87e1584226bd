"""What is done to gradients between the backward pass and the step, as it is done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from steadygrad import stats
from steadygrad.frames import user_frame
from steadygrad.monitor.sampling import Schedule
from steadygrad.monitor.state import Pending
from steadygrad.monitor.structure import Structure


class ClipEvents:
    """Takes in clips: torch's, by norm and by value, and those of our own clippers."""

    def __init__(self, pending: Pending, schedule: Schedule, structure: Structure) -> None:
        self._pending = pending
        self._schedule = schedule
        self._structure = structure
        #: Whether the script clips by calling something known; if not, clips written by hand are looked for.
        self.by_call = False

    def total_norm(self, gradients: list[Tensor], norm_type: float, error: object, foreach: object) -> Tensor | None:
        """The total norm as torch computes it, or None: not ours to do."""
        return self._pending.clips.total_norm(gradients, norm_type, error, foreach)

    def clipped(self, parameters: Sequence[Tensor], max_norm: Any, total: Any, ours: bool) -> bool:
        """``clip_grad_norm_`` is about to scale. True: it has been done here, to the bit (if ``ours``: it may be)."""
        if getattr(total, "is_meta", False):
            return False
        self.by_call = True
        if self._schedule.sampled:
            self._structure.note_source("clip", user_frame(3))
        if stats.sharded(total):
            known = stats.known_here(total)
            if known is None:  # of p=inf, say: to read it would be to wait for the other processes
                self._pending.raw.clear()
            else:
                self._pending.clips.scaled_over_ranks(parameters, float(max_norm), known)
            return False
        return self._pending.clips.scaled(parameters, float(max_norm), total, ours=ours)

    def value_clipped(self, gradients: Sequence[Tensor], limit: float) -> None:
        """``clip_grad_value_`` is about to clamp: measure the gradients before it."""
        if any(g.is_meta for g in gradients):
            return
        if self._schedule.sampled:
            self._structure.note_source("clip", user_frame(3))
        self._pending.clips.clamped(gradients, limit)

    def clip_measured(self, parameters: Sequence[Tensor], max_norm: float, info: Any) -> None:
        """A clipper of ours measured these parameters' gradients: that need not be done again."""
        self.by_call = True
        if self._schedule.sampled:
            self._structure.note_source("clip", user_frame(3))
        self._pending.clips.told(parameters, max_norm, info)
