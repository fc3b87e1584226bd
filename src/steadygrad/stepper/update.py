"""One update of the parameters: decided once, from the gradient as it is, and then taken whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim import Optimizer

from steadygrad import notices
from steadygrad.clip.gradients import Gradients, collect, scale
from steadygrad.errors import NonFiniteError
from steadygrad.guard.damping import damped
from steadygrad.guard.running import RunningStatistics
from steadygrad.guard.verdict import NONFINITE, NONFINITE_GRADIENT, OVERFLOW, Damping, Found, Limits
from steadygrad.stepper.folding import alike, folded, realign, refusal
from steadygrad.stepper.grouping import together
from steadygrad.stepper.result import Outcome
from steadygrad.stepper.scaling import Scaling
from steadygrad.stepper.schedulers import Schedulers

if TYPE_CHECKING:
    from steadygrad.clip import ClipInfo, Clipper

Decided = tuple["ClipInfo", Outcome]


def parameters(optimizers: Sequence[Optimizer]) -> list[Tensor]:
    """All parameters of the optimizers, as their groups hold them now."""
    return [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]


@dataclass(frozen=True)
class _Proposal:
    """A step that could be taken: by which optimizers, from which gradients, and what is known of it."""

    optimizers: Sequence[Optimizer]
    gradients: Gradients
    info: ClipInfo
    loss: Tensor | None
    limits: Limits
    damping: Damping | None


class Update:
    """Measures, decides, and then steps optimizers, clip statistics, scaler and schedulers together, or none of them.

    Args:
        on_nonfinite: skip, raise or zero.
        fold: whether fused optimizers may scale in their kernels.
        defer: whether the device may decide, unread by the host; the schedulers are then stepped provisionally.
        names: of parameters, by ``id``.
    """

    def __init__(
        self,
        optimizers: Sequence[Optimizer],
        clip: Clipper,
        scaling: Scaling,
        schedulers: Schedulers,
        running: RunningStatistics,
        *,
        on_nonfinite: str,
        fold: bool,
        defer: bool | None,
        names: Mapping[int, str],
    ) -> None:
        self.optimizers, self.clip, self.scaling = optimizers, clip, scaling
        self.schedulers, self.running = schedulers, running
        self._on_nonfinite, self._fold, self._defer = on_nonfinite, fold and clip.foldable, defer
        self._names = names
        #: Why the last clip that had to scale was not folded; empty where it was.
        self.refused = ""

    def make(self, loss: Tensor | None, limits: Limits, damping: Damping | None) -> Decided:
        """Take the step that the gradients in place describe, or skip it.

        Args:
            loss: 0-dim, or None.
            limits: above these the step is skipped.
            damping: makes the step gentler.

        Raises:
            NonFiniteError: with ``on_nonfinite="raise"``.
        """
        having = [o for o in self.optimizers if any(p.grad is not None for p in parameters([o]))]
        self.scaling.unscale(having)
        gradients = collect(parameters(having))
        if not alike(gradients):
            for optimizer in having:
                realign(optimizer)
            gradients = collect(parameters(having))
        info = self.clip.measure(gradients)
        proposal = _Proposal(having, gradients, info, loss, limits, damping)
        return self._on_device(proposal) if self._device_decides(having, gradients) else self._on_host(proposal)

    def _device_decides(self, optimizers: Sequence[Optimizer], gradients: Gradients) -> bool:
        if self._defer is False or not self._fold or self._on_nonfinite != "skip" or not optimizers:
            return False
        if self._defer is None and parameters(optimizers)[0].device.type == "cpu":
            return False  # reading one number costs nothing there, and a step that is not taken saves its time
        return not any(refusal(optimizer, gradients, on_device=True) for optimizer in optimizers)

    # -- decided by the host ------------------------------------------------------------------------------------

    def _on_host(self, step: _Proposal) -> Decided:
        info, found = step.info, read(step.info, step.loss)
        reason = self.scaling.reason(step.limits.reason(found))
        if reason in NONFINITE and self._on_nonfinite == "raise":
            raise NonFiniteError(f"{reason}: {self._culprits(step.gradients, info)}")
        if reason == NONFINITE_GRADIENT and self._on_nonfinite == "zero":
            info, reason = self._zeroed(step.gradients), ""
        if reason:
            notices.tell_skipped(reason)
            self._skip(blame_scale=reason in (NONFINITE_GRADIENT, OVERFLOW))
        else:
            info = self._take(step, info)
        return info, Outcome(found, reason)

    def _skip(self, *, blame_scale: bool) -> None:
        self.running.restore()
        if blame_scale:
            self.scaling.update()
        else:
            self.scaling.hold()

    def _take(self, step: _Proposal, info: ClipInfo) -> ClipInfo:
        extra = _damping_factor(info, step.damping)
        used = info if extra is None else _scaled_further(info, extra)
        if self.clip.foldable:
            self.clip.announce(step.gradients, used)
        else:
            self.clip.apply(step.gradients, info)
            if extra is not None:
                with torch.no_grad():
                    scale(step.gradients, extra)
        needed = self.clip.foldable and float(used.coefficient) != 1.0
        for optimizer in step.optimizers:
            divisor = self._divisor(optimizer, step.gradients, used) if needed else None
            with damped(optimizer, step.damping), folded(optimizer, divisor), together(optimizer, step.gradients):
                optimizer.step()
        self.clip.commit(info)
        self.scaling.update()
        self.schedulers.step()
        self.running.keep()
        return used

    def _divisor(self, optimizer: Optimizer, gradients: Gradients, info: ClipInfo) -> Tensor | None:
        """What the optimizer's kernel is to divide by; None when the gradients have been scaled here instead."""
        self.refused = (
            refusal(optimizer, gradients) if self._fold else "folding is switched off, or the clip has many factors"
        )
        if self.refused or not float(info.coefficient) > 0:  # a division by infinity is nothing to rely on
            with torch.no_grad():
                scale(gradients if len(self.optimizers) == 1 else collect(parameters([optimizer])), info.coefficient)
            return None
        return info.coefficient.reciprocal()

    def _zeroed(self, gradients: Gradients) -> ClipInfo:
        for gradient in gradients.tensors:
            torch.nan_to_num_(gradient, nan=0.0, posinf=0.0, neginf=0.0)
        return self.clip.measure(gradients)

    def _culprits(self, gradients: Gradients, info: ClipInfo) -> str:
        """Names of the parameters whose gradients are not finite. These are left in place to be looked at."""
        bad = (~torch.isfinite(info.norms)).nonzero().flatten().tolist()
        names = [self._name(gradients.parameters[i]) for i in bad]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return f"of {', '.join(names[:3])}{more}" if names else "while every gradient is finite"

    def _name(self, parameter: Tensor) -> str:
        if id(parameter) in self._names:
            return self._names[id(parameter)]
        places = ((o, g, i, p) for o in self.optimizers for g, group in enumerate(o.param_groups)
                  for i, p in enumerate(group["params"]))  # fmt: skip
        o, g, i, _ = next(place for place in places if place[3] is parameter)
        return f"parameter {i} of group {g} of {type(o).__name__} with shape {tuple(parameter.shape)}"

    # -- decided by the device ----------------------------------------------------------------------------------

    def _on_device(self, step: _Proposal) -> Decided:
        info, loss, limits = step.info, step.loss, step.limits
        bad_loss = ~torch.isfinite(loss) if loss is not None else torch.zeros_like(info.non_finite)
        bad = info.non_finite | bad_loss.to(info.non_finite.device) | (info.norm_before > limits.norm)
        if loss is not None:
            bad |= (loss > limits.loss).to(bad.device)
        outcome = Outcome.on_device(bad, info, loss, self.scaling.scale, limits)
        extra = _damping_factor(info, step.damping)
        used = info if extra is None else _scaled_further(info, extra)
        divisor = torch.where(bad, 1.0, used.coefficient).float().reciprocal()
        self.clip.announce(step.gradients, used)
        for optimizer in step.optimizers:
            with damped(optimizer, step.damping), folded(optimizer, divisor, bad.float()):
                optimizer.step()
        self.clip.commit(replace(info, non_finite=bad))
        self.scaling.update_unless(bad & ~(info.non_finite & ~bad_loss.to(bad.device)))  # unless it overflowed
        self.schedulers.step_provisionally()
        self.running.restore_where(bad)
        self.running.keep()
        self.refused = ""
        return used, outcome


def read(info: ClipInfo, loss: Tensor | None) -> Found:
    """Loss and norm on the host, with one read from an accelerator."""
    values = [info.non_finite, info.norm_before, *([loss] if loss is not None else [])]
    if all(value.device.type == "cpu" for value in values):
        numbers = [float(value) for value in values]
    else:
        numbers = torch.stack([v.detach().to(values[0].device, torch.float32) for v in values]).cpu().tolist()
    return Found(numbers[1], numbers[2] if loss is not None else None, numbers[0] > 0)


def _damping_factor(info: ClipInfo, damping: Damping | None) -> Tensor | None:
    return None if damping is None else (damping.norm / (info.norm_after + 1e-6)).clamp(max=1.0).float()


def _scaled_further(info: ClipInfo, factor: Tensor) -> ClipInfo:
    coefficient = info.coefficient * factor
    return replace(
        info, coefficient=coefficient, norm_after=info.norm_after * factor, clipped=info.clipped | (factor < 1)
    )
