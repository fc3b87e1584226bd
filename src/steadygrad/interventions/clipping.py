"""Clipping: by norm, by value, by the recent norms; a clip of the script's own loosened; bad steps left out."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad, clip_grad_norm_, clip_grad_value_
from torch.optim.optimizer import Optimizer

from steadygrad.interventions.report import Report
from steadygrad.interventions.stage import Stage, parameters_of
from steadygrad.records import RemedySpec
from steadygrad.values import positive

#: Norms or losses an adaptive threshold and a rule for bad steps look back on, and how many they need.
WINDOW, ENOUGH = 100, 10
#: After this many steps left out in a row the next one is taken: this is then no outlier.
PATIENCE = 5


def _at_gradients(stage: Stage, clip: Callable[[list[Tensor]], None]) -> None:
    """Before each optimizer's step, or after each backward pass of scripts that have none."""

    def clip_all(parameters: Iterable[Tensor]) -> None:
        held = [p for p in parameters if p.grad is not None and clippable(p.grad)]
        if held:
            clip(held)

    def step(optimizer: Optimizer) -> None:
        clip_all(parameters_of(optimizer))

    def backward(leaves: list[Tensor]) -> None:
        if stage.by_hand:
            clip_all(leaves)

    stage.before_step(step)
    stage.after_backward(backward)


def clippable(grad: Tensor) -> bool:
    """torch's clips take neither sparse nor meta gradients."""
    return grad.layout == torch.strided and not grad.is_meta


def clip_norm(stage: Stage, spec: RemedySpec, report: Report) -> None:
    """Clip the global norm right before the update."""
    limit = positive(spec, 1.0)

    def clip(parameters: list[Tensor]) -> None:
        report.applied(f"gradients are clipped to norm {limit:g}")
        clip_grad_norm_(parameters, limit)

    _at_gradients(stage, clip)


def clip_value(stage: Stage, spec: RemedySpec, report: Report) -> None:
    """Clamp every entry right before the update."""
    limit = positive(spec, 1.0)

    def clip(parameters: list[Tensor]) -> None:
        report.applied(f"gradient entries are clipped to {limit:g}")
        clip_grad_value_([p for p in parameters if not p.is_complex()], limit)

    _at_gradients(stage, clip)


def clip_adaptive(stage: Stage, spec: RemedySpec, report: Report) -> None:
    """Clip to the median of the last norms, times a factor."""
    factor = positive(spec, 1.0)
    norms: deque[float] = deque(maxlen=WINDOW)

    def clip(parameters: list[Tensor]) -> None:
        report.applied(f"gradients are clipped to {factor:g} times the median of their last {WINDOW} norms")
        limit = factor * median(norms) if len(norms) >= ENOUGH else math.inf
        norm = float(clip_grad_norm_(parameters, limit))
        if math.isfinite(norm):
            norms.append(norm)

    _at_gradients(stage, clip)


def loosen_clip(stage: Stage, spec: RemedySpec, report: Report) -> None:
    """Another threshold for the script's own clip, whether it uses torch's functions or its own."""
    limit = positive(spec, math.inf) if spec.value != "off" else math.inf
    own = _OwnClip(stage, report, limit)

    def function(original: Any) -> Any:
        def clip(parameters: Any, threshold: float, *args: Any, **kwargs: Any) -> Any:
            own.torch_clips = True
            report.applied(f"the clip at {float(threshold):.3g} is set to {limit:g}")
            return original(parameters, limit, *args, **kwargs)

        return clip

    for name in ("clip_grad_norm_", "clip_grad_value_"):
        for holder in (clip_grad, nn.utils):
            stage.patch(holder, name, lambda original: _renamed(function(original), original))


def _renamed(clip: Any, original: Any) -> Any:
    """The threshold may be given by the name it has in the original."""

    def wrapper(parameters: Any, *args: Any, **kwargs: Any) -> Any:
        threshold = args[0] if args else kwargs.pop("max_norm", kwargs.pop("clip_value", math.inf))
        return clip(parameters, threshold, *args[1:], **kwargs)

    return wrapper


class _OwnClip:
    """A clip written by hand: gradients that are smaller at the step than backward left them."""

    def __init__(self, stage: Stage, report: Report, limit: float) -> None:
        self.torch_clips = False
        self._report, self._limit = report, limit
        self._grads: dict[int, Tensor] = {}
        stage.after_backward(self.keep)
        stage.before_step(self.restore)
        stage.patch(torch.amp.GradScaler, "unscale_", self._unscaled)
        stage.patch(torch.amp.GradScaler, "step", self._unscaled)

    def _unscaled(self, original: Any) -> Any:
        """A loss scaler makes gradients smaller too; that is no clip."""

        def unscale(scaler: Any, *args: Any, **kwargs: Any) -> Any:
            if scaler.is_enabled():
                self._grads.clear()
            return original(scaler, *args, **kwargs)

        return unscale

    def keep(self, leaves: list[Tensor]) -> None:
        """Remember the gradients as backward left them."""
        if not self.torch_clips:
            self._grads = {id(p): p.grad.detach().clone() for p in leaves if p.grad is not None}

    def restore(self, optimizer: Optimizer) -> None:
        """Put them back where the script has made them smaller."""
        held = [p for p in parameters_of(optimizer) if p.grad is not None and id(p) in self._grads]
        if self.torch_clips or not held:
            return
        before = torch.stack([self._grads[id(p)].norm() for p in held]).norm()
        after = torch.stack([p.grad.norm() for p in held if p.grad is not None]).norm()
        if not bool(after < 0.999 * before):
            return
        self._report.applied(f"the clip written by hand is undone; gradients are clipped to norm {self._limit:g}")
        for p in held:
            assert p.grad is not None
            p.grad.copy_(self._grads[id(p)])
        if self._limit < math.inf:
            clip_grad_norm_(held, self._limit)


class BadSteps:
    """Which steps to leave out: gradients that are not finite, or far above their own recent norms."""

    def __init__(self, stage: Stage, report: Report, factor: float) -> None:
        self._report, self._factor = report, factor
        self._norms: deque[float] = deque(maxlen=WINDOW)
        self._row = 0
        self._unclipped = 0.0  # the norm before a clip of the script's own, which hides what is bad about a step
        for name in ("clip_grad_norm_", "clip_grad_value_"):
            for holder in (clip_grad, nn.utils):
                stage.patch(holder, name, self._before_clip)

    def _before_clip(self, original: Any) -> Any:
        def clip(parameters: Any, *args: Any, **kwargs: Any) -> Any:
            held = [parameters] if isinstance(parameters, Tensor) else list(parameters)
            self._unclipped = _larger(self._unclipped, _norm(held))
            return original(held, *args, **kwargs)

        return clip

    def bad(self, parameters: list[Tensor]) -> bool:
        """Judge the gradients of one step."""
        if all(p.grad is None for p in parameters):
            return False
        norm, self._unclipped = _larger(_norm(parameters), self._unclipped), 0.0
        outlier = len(self._norms) >= ENOUGH and norm > self._factor * median(self._norms) and self._row < PATIENCE
        if math.isfinite(norm):
            self._norms.append(norm)
        found = not math.isfinite(norm) or outlier
        self._row = self._row + 1 if found else 0
        if found:
            self._report.applied(f"a step with gradient norm {norm:.3g} was left out")
        return found

    def leave_out(self, parameters: list[Tensor]) -> None:
        """Without gradients an optimizer leaves weights and its own state alone."""
        if self.bad(parameters):
            for p in parameters:
                p.grad = None


def _norm(parameters: Iterable[Tensor]) -> float:
    grads = [p.grad.detach().norm().float() for p in parameters if p.grad is not None and clippable(p.grad)]
    return float(torch.stack(grads).norm()) if grads else 0.0


def _larger(one: float, other: float) -> float:
    """The larger of two norms; what is no number is larger than any."""
    return other if math.isnan(other) else max(one, other)


def skip_bad_step(stage: Stage, spec: RemedySpec, report: Report) -> None:
    """Leave out steps whose gradient is not finite, or ``value`` times the usual."""
    rule = BadSteps(stage, report, positive(spec, 10.0))

    def zeroed(leaves: list[Tensor]) -> None:
        if stage.by_hand and rule.bad(leaves):
            for p in leaves:
                if p.grad is not None:
                    p.grad.zero_()

    stage.before_step(lambda optimizer: rule.leave_out(list(parameters_of(optimizer))))
    stage.after_backward(zeroed)
