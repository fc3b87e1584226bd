"""What a step says about itself. Tensors stay on their device until they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from steadygrad import notices
from steadygrad.guard.verdict import GRADIENT_SPIKE, Found, Limits, blamed

if TYPE_CHECKING:
    from steadygrad.clip import ClipInfo


class Readback:
    """Numbers on their way to the host: copied without waiting, and waited for only when read."""

    def __init__(self, *values: Tensor) -> None:
        device = values[0].device
        stacked = torch.stack([v.detach().to(device, torch.float32) for v in values])
        self._host, self._event = stacked, None
        if device.type == "cuda":
            self._host = torch.empty(len(values), dtype=torch.float32, pin_memory=True)
            self._host.copy_(stacked, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()

    def read(self) -> list[float]:
        """The numbers."""
        if self._event is not None:
            self._event.synchronize()
        return [float(v) for v in self._host.cpu().tolist()]


class Outcome:
    """The decision about one optimizer step. Where the device made it, it is read when it is asked for.

    Args:
        found: loss and norm, where the host knows them already.
        reason: why the step was skipped; empty when it was taken.
    """

    def __init__(self, found: Found | None = None, reason: str = "") -> None:
        self._found, self._reason = found, reason
        self._readback: Readback | None = None
        self._limits = Limits()

    @classmethod
    def on_device(
        cls, bad: Tensor, info: ClipInfo, loss: Tensor | None, scale: Tensor | None, limits: Limits
    ) -> Outcome:
        """A decision that only the device knows so far.

        Args:
            bad: whether the step is skipped, 0-dim.
            info: of the gradients.
            loss: 0-dim, or None.
            scale: of a GradScaler, as it was for this step.
            limits: that the decision was made by.
        """
        outcome = cls()
        factor = torch.ones_like(info.norm_before) if scale is None else scale
        known = [bad, info.non_finite, info.norm_before, factor]
        outcome._readback = Readback(*known, *([loss] if loss is not None else []))
        outcome._limits = limits
        return outcome

    @property
    def waiting(self) -> bool:
        """Whether the host does not know the decision yet."""
        return self._readback is not None

    def _read(self) -> None:
        if self._readback is not None:
            bad, non_finite, norm, scale, *loss = self._readback.read()
            self._readback = None
            self._found = Found(norm, loss[0] if loss else None, non_finite > 0)
            # The device compared in its own precision, so its word counts, not a second comparison here.
            reason = (self._limits.reason(self._found) or GRADIENT_SPIKE) if bad > 0 else ""
            self._reason = blamed(reason, scale)
            if self._reason:
                notices.tell_skipped(self._reason, recorded=True)

    @property
    def found(self) -> Found:
        """Loss and norm on the host."""
        self._read()
        assert self._found is not None
        return self._found

    @property
    def reason(self) -> str:
        """Why the step was skipped; empty when it was taken."""
        self._read()
        return self._reason


class StepResult:
    """What :meth:`Stepper.step` did.

    Attributes:
        boundary: whether this call completed an optimizer step; False for a micro-batch in between.
        loss: mean of the losses of the micro-batches so far, 0-dim on its device; None where no loss was given. With
            several processes the mean over them, from the boundary on.
        clip: the whole :class:`~steadygrad.clip.ClipInfo`, with the norms per tensor; None between boundaries.
    """

    __slots__ = ("_outcome", "boundary", "clip", "loss")

    def __init__(self, loss: Tensor | None, clip: ClipInfo | None = None, outcome: Outcome | None = None) -> None:
        self.loss, self.clip, self._outcome = loss, clip, outcome
        self.boundary = outcome is not None

    @property
    def stepped(self) -> bool:
        """Whether the optimizer stepped. Reading it waits for the device."""
        return self._outcome is not None and not self._outcome.reason

    @property
    def skipped(self) -> bool:
        """Whether the optimizer should have stepped and did not. Reading it waits for the device."""
        return self._outcome is not None and bool(self._outcome.reason)

    @property
    def reason(self) -> str:
        """Why the step was not taken, as in :mod:`steadygrad.guard.verdict`, e.g. "non-finite loss"; else empty."""
        return self._outcome.reason if self._outcome is not None else ""

    @property
    def norm_before(self) -> Tensor | None:
        """Global gradient norm before the clip, after unscaling; 0-dim."""
        return self.clip.norm_before if self.clip is not None else None

    @property
    def norm_after(self) -> Tensor | None:
        """Global gradient norm after the clip; 0-dim."""
        return self.clip.norm_after if self.clip is not None else None

    @property
    def coefficient(self) -> Tensor | None:
        """The factor the clip scaled by; 0-dim float32, 1.0 where it did nothing."""
        return self.clip.coefficient if self.clip is not None else None

    @property
    def clipped(self) -> Tensor | None:
        """Whether the clip did anything; 0-dim bool."""
        return self.clip.clipped if self.clip is not None else None

    def __repr__(self) -> str:
        if self._outcome is None:
            return "StepResult(accumulating)"
        return f"StepResult({'skipped: ' + self.reason if self.skipped else 'stepped'})"
