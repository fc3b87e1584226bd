"""Hooks on the forward pass: module calls, and the loss functions whose inputs are looked at."""

from __future__ import annotations

from functools import partial
from threading import get_ident
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from steadygrad.attach.watch import Watch
from steadygrad.patching import LOSSES, Installed, Patch, in_transform
from steadygrad.probes import Probe


class Forward:
    """Follows outermost modules; on sampled steps a probe looks at every module inside them."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._in_loss = False

    def install(self, installed: Installed) -> list[Patch]:
        """Put the hooks in place, and return them: they are what a compiler would trace."""
        patches = installed.patch(nn.Module, "__call__", self._module_call)
        for name in LOSSES:
            patches += installed.patch(F, name, partial(self._loss, name))
        return patches

    def _module_call(self, original: Any) -> Any:
        watch, monitor, probed = self._watch, self._watch.monitor, self._probed
        # Torch's own only chooses between two calls. For the modules inside, that is done here: a call less.
        chooses = original is vars(nn.Module).get("_wrapped_call_impl")

        def __call__(module: nn.Module, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
            if watch.inside:
                probe = monitor.probe
                if probe is not None and probe.running and watch.inside == get_ident():
                    return probed(original, probe, module, args, kwargs)
                if chooses and module._compiled_call_impl is None:
                    return module._call_impl(*args, **kwargs)  # type: ignore[no-untyped-call]
                return original(module, *args, **kwargs)
            if watch.in_backward or not torch.is_grad_enabled() or not watch.here() or in_transform():
                return original(module, *args, **kwargs)
            if isinstance(module, nn.modules.loss._Loss):
                return original(module, *args, **kwargs)
            return self._outermost(original, module, args, kwargs)

        return __call__

    def _outermost(self, original: Any, module: nn.Module, args: Any, kwargs: Any) -> Any:
        watch, monitor = self._watch, self._watch.monitor
        probe = None
        if not watch.briefly(monitor.ordinary.forward, module, args, kwargs):
            probe = watch.call(monitor.forward_begins, module, args, kwargs)
        watch.inside = get_ident()
        try:
            if probe is None:
                return original(module, *args, **kwargs)
            with probe.observing():
                return self._probed(original, probe, module, args, kwargs)
        finally:
            watch.inside = 0
            if probe is not None:
                watch.call(monitor.forward_ended)

    def _probed(self, original: Any, probe: Probe, module: nn.Module, args: Any, kwargs: Any) -> Any:
        probe.enter(module)
        try:
            if module.training:
                out = original(module, *args, **kwargs)
            else:
                with probe.unwatched(module):
                    out = original(module, *args, **kwargs)
        except BaseException:
            self._watch.call(probe.abandon)
            raise
        self._watch.call(probe.leave, module, args or tuple(kwargs.values()), out)
        return out

    def _loss(self, name: str, original: Any) -> Any:
        watch, monitor = self._watch, self._watch.monitor

        def loss(*args: Any, **kwargs: Any) -> Any:
            if self._in_loss or watch.in_backward or not torch.is_grad_enabled() or not watch.here():
                return original(*args, **kwargs)
            self._in_loss = True  # under a function mode torch calls it once more from within
            try:
                out = original(*args, **kwargs)
            finally:
                self._in_loss = False
            if monitor.looks_at_losses:
                watch.call(monitor.loss_called, name, args, kwargs, out)
            else:  # a guarded call costs more than all there is to do
                monitor.loss_passed(args, kwargs)
            return out

        return loss
