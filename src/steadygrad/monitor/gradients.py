"""Gradients as the optimizer is about to use them, and as they were before anything was done to them.

Shapes legend: P = parameters in the run's table, n = gradients of one optimizer.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steadygrad import stats
from steadygrad.monitor.sampling import Schedule
from steadygrad.monitor.scaling import Scaling
from steadygrad.monitor.state import Measured, Pending, Stream
from steadygrad.monitor.streams import Streams
from steadygrad.monitor.structure import Structure
from steadygrad.monitor.waiting import spread_out
from steadygrad.naming import Registry

#: Unusual steps observed in detail, on top of one in fifty: a run that has gone to NaN need not be looked at closely.
UNUSUAL_DETAILS = 32
#: Signs of trouble heeded, on top of one in so many steps: three close looks each, so at 1% of the steps of a long run.
SIGNS, STEPS_PER_SIGN = 3, 300
#: A gradient is a sign if it is unusual and this many times the usual one: before a leap of the loss it grows by more.
TIMES_USUAL = 4.0


class Gradients:
    """Measures the gradients of one optimizer, once a step."""

    def __init__(
        self, registry: Registry, streams: Streams, scaling: Scaling, structure: Structure, schedule: Schedule
    ) -> None:
        self._registry = registry
        self._streams = streams
        self._scaling = scaling
        self._structure = structure
        self._schedule = schedule
        self._unusual = self._signs = 0

    def measure(self, stream: Stream, optimizer: Any, pending: Pending) -> Measured | None:
        """Norms before the update; the origin of anything non-finite is looked for here, before it spreads."""
        measured = self._measure(stream, optimizer, pending)
        if measured is not None:
            self._heed(stream, measured)
        return measured

    def _measure(self, stream: Stream, optimizer: Any, pending: Pending) -> Measured | None:
        if not all(map(math.isfinite, pending.fetch())):
            self._structure.trace_origin("loss", pending)
        losses = [v for values in pending.losses.values() for v in values]
        suspicious = self._is_unusual(stream, losses)
        ordinary = None if suspicious else self._as_clipped(stream, optimizer, pending)
        if ordinary is not None:
            return ordinary
        gradients, rows = self._streams.gradients(stream)
        if stream.unreal:
            return None
        norms, scale = self._norms_before_clips(gradients, optimizer, pending)
        total = float(torch.linalg.vector_norm(norms)) if gradients else 0.0
        if not math.isfinite(total):
            norms = stats.safe_norms(gradients).cpu() * torch.as_tensor(scale, device="cpu")
            total = float(torch.linalg.vector_norm(norms)) if gradients else 0.0
        pending.clips.by_hand(pending.raw.get(stream.index, math.nan), total)
        vector = spread_out(norms.float().numpy(), rows, len(self._registry.parameters))
        if not math.isfinite(total) and all(map(math.isfinite, losses)) and not self._scaling.active:
            self._structure.trace_origin("gradient", pending)
        unusual = suspicious or not math.isfinite(total)
        self._unusual += unusual
        unusual = unusual and self._unusual <= UNUSUAL_DETAILS + self._schedule.iteration // 50
        if unusual:
            self._schedule.look_closely()
        return Measured(gradients, rows, vector, total, scale, unusual)

    def _as_clipped(self, stream: Stream, optimizer: Any, pending: Pending) -> Measured | None:
        """The norms that the script's clip went by, if they are all there is to know: so it is at most steps."""
        if self._schedule.sampled or self._scaling.active or optimizer is None:
            return None
        if not pending.clips.has_told() and isinstance(getattr(optimizer, "grad_scale", None), Tensor):
            return None
        known = pending.clips.plain(self._streams.parameters(stream))
        if known is None or not math.isfinite(known[1]) or stream.sharded or stream.unreal:
            return None
        vector = spread_out(known[0].cpu().float().numpy(), stream.rows, len(self._registry.parameters))
        return Measured([], stream.rows, vector, known[1], 1.0, unusual=False)

    def _norms_before_clips(
        self, gradients: list[Tensor], optimizer: Any, pending: Pending
    ) -> tuple[Tensor, float | NDArray[np.float64]]:
        """L2 norms before clipping and loss scaling, and the factor that undoes both."""
        fused, ours = getattr(optimizer, "grad_scale", None), pending.clips.has_told()
        norms, scale = pending.clips.undone(gradients, rescaled=self._scaling.active)
        if isinstance(fused, Tensor) and not ours:  # the kernel will divide the gradients themselves by it
            norms = norms / float(fused)
        norms = norms.cpu()
        faint = (norms < stats.UNDERFLOW).nonzero().flatten().tolist() if self._schedule.sampled else []
        if faint:  # float32 takes a gradient of 1e-23 for zero
            exact = stats.safe_norms([gradients[i] for i in faint]).cpu().to(norms.dtype)
            norms[faint] = exact * torch.as_tensor(scale, dtype=norms.dtype).expand(len(gradients))[faint]
        if self._scaling.clipped_too_early(norms, pending):
            pending.flags.append("clip-before-unscale")
        return norms, scale

    def _heed(self, stream: Stream, measured: Measured) -> None:
        """A gradient far above the recent ones often comes a step before the loss that shows it: look from now on.

        So the step of a leap, and not only those after it, is observed in full where the gradient announces it.
        """
        usual = stream.steepness
        sign = usual.count >= usual.warmup and usual.unusual(measured.total)
        sign = sign and not measured.total < TIMES_USUAL * usual.centre
        stream.steepness.add(measured.total)
        if sign and not measured.unusual and self._signs < SIGNS + self._schedule.iteration // STEPS_PER_SIGN:
            self._signs += 1
            self._schedule.look_closely()

    def _is_unusual(self, stream: Stream, losses: list[float]) -> bool:
        spread, loss = stream.spread, losses[0] if losses else math.nan
        unusual = bool(losses) and spread.count >= spread.warmup and spread.unusual(loss)
        spread.add(loss)
        return unusual


def is_cleared(parameter: Tensor | None) -> bool:
    """Whether a parameter has no gradient, or one of zeros."""
    grad = parameter.grad if parameter is not None else None
    grad = stats.local(grad) if grad is not None else None
    if grad is None or grad.layout != torch.strided or not grad.numel():
        return True
    return not bool(grad.reshape(-1)[:: max(1, grad.numel() // 4096)].any())
