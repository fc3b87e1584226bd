"""Hooks on gradient clipping: torch's own functions, however a script imported them, and our clippers."""

from __future__ import annotations

import sys
from typing import Any

from torch import Tensor
from torch.nn.utils import clip_grad

from steadygrad import notices
from steadygrad.attach.watch import Watch
from steadygrad.patching import Installed, modes_are_active, several, tensors_of


class Clipping:
    """Follows what is done to gradients between the backward pass and the step."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def install(self, installed: Installed) -> None:
        """Put the hooks in place: on what the public functions call, since a script may hold those by name."""
        installed.patch(clip_grad, "_get_total_norm", self._total_norm, also="get_total_norm")
        installed.patch(clip_grad, "_clip_grads_with_norm_", self._clip_with_norm, also="clip_grads_with_norm_")
        installed.patch(clip_grad, "_group_tensors_by_device_and_dtype", self._clip_value)
        installed.listen(notices.clip_measured, self._clip_measured)
        installed.listen(notices.step_skipped, self._step_skipped)

    def _total_norm(self, original: Any) -> Any:
        watch, monitor = self._watch, self._watch.monitor

        def _get_total_norm(
            tensors: Any, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: bool | None = None
        ) -> Any:
            tensors = several(tensors)
            if isinstance(tensors, list) and watch.here() and not modes_are_active():
                asked = tensors, norm_type, error_if_nonfinite, foreach
                measured = watch.briefly(monitor.ordinary.total_norm, *asked)
                if not isinstance(measured, Tensor):
                    measured = watch.call(monitor.clips.total_norm, *asked)
                if measured is not None:
                    return measured
            return original(tensors, norm_type, error_if_nonfinite, foreach)

        return _get_total_norm

    def _clip_with_norm(self, original: Any) -> Any:
        watch, monitor = self._watch, self._watch.monitor

        def _clip_grads_with_norm_(
            parameters: Any, max_norm: float, total_norm: Tensor, foreach: bool | None = None
        ) -> Any:
            parameters = several(parameters)
            if watch.here():
                ours = foreach is None and not modes_are_active()
                asked = tensors_of(parameters), max_norm, total_norm
                done = ours and watch.briefly(monitor.ordinary.clipped, *asked)
                if done or watch.call(monitor.clips.clipped, *asked, ours):
                    return None
            return original(parameters, max_norm, total_norm, foreach)

        return _clip_grads_with_norm_

    def _clip_value(self, original: Any) -> Any:
        """``clip_grad_value_`` groups its gradients first: there it is seen, however the script imported it."""
        watch, monitor = self._watch, self._watch.monitor

        def _group_tensors_by_device_and_dtype(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            caller = sys._getframe(1)
            if caller.f_code.co_name == "clip_grad_value_" and watch.here():
                watch.call(monitor.clips.value_clipped, list(tensors[0]), float(caller.f_locals["clip_value"]))
            return original(tensors, *args, **kwargs)

        return _group_tensors_by_device_and_dtype

    def _clip_measured(self, parameters: list[Tensor], max_norm: float, info: Any) -> None:
        if self._watch.here():
            self._watch.call(self._watch.monitor.clips.clip_measured, parameters, max_norm, info)

    def _step_skipped(self, reason: str, recorded: bool) -> None:
        if self._watch.here():
            self._watch.call(self._watch.monitor.step_skipped, reason, recorded)
