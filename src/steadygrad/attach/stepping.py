"""Hooks on optimizers and on the loss scaler around them."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from steadygrad.attach.watch import Watch
from steadygrad.patching import Installed, given_closure


class Stepping:
    """Follows every optimizer's steps, and the scaler's that may leave some out."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def install(self, installed: Installed) -> None:
        """Put the hooks in place."""
        installed.then(register_optimizer_step_pre_hook(self._step_begins).remove)
        installed.then(register_optimizer_step_post_hook(self._step_ended).remove)
        installed.patch(torch.amp.GradScaler, "scale", self._scale)
        installed.patch(torch.amp.GradScaler, "step", self._scaler_step)
        installed.patch(Optimizer, "__init__", self._optimizer_init)

    def _scale(self, original: Any) -> Any:
        watch = self._watch

        def scale(scaler: Any, outputs: Any) -> Any:
            scaled = original(scaler, outputs)
            if scaler.is_enabled() and watch.here():
                watch.call(watch.monitor.scaled, outputs, scaled, scaler)
            return scaled

        return scale

    def _scaler_step(self, original: Any) -> Any:
        watch = self._watch

        def step(scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            observed = scaler.is_enabled() and watch.here()
            if observed:
                watch.call(watch.monitor.scaler_begins, optimizer)
            result = original(scaler, optimizer, *args, **kwargs)
            if observed:
                watch.call(watch.monitor.scaler_ended, optimizer)
            return result

        return step

    def _optimizer_init(self, original: Any) -> Any:
        watch = self._watch

        def __init__(optimizer: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
            original(optimizer, *args, **kwargs)
            if watch.here():
                watch.call(watch.monitor.optimizer_built, optimizer)

        return __init__

    def _step_begins(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        watch = self._watch
        if torch.compiler.is_compiling() or not watch.here():
            return
        closure = given_closure(args, kwargs)
        if closure or not watch.briefly(watch.monitor.step_is_ordinary, optimizer):
            watch.call(watch.monitor.step_begins, optimizer, closure)

    def _step_ended(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        watch = self._watch
        if torch.compiler.is_compiling() or not watch.here():
            return
        if not watch.monitor.step_passed(optimizer):
            watch.call(watch.monitor.step_ended, optimizer, given_closure(args, kwargs))
        elif watch.monitor.steps_are_due:
            watch.call(watch.monitor.hand_on)
