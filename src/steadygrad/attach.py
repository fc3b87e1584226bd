"""Zero-code attachment: process-wide hooks that feed a :class:`~steadygrad.monitor.Monitor`, removed without a trace.

Nothing is attached to the script's own objects, so its models copy, pickle and compile as before. Every hook calls the
original first or last, outside our own error handling: an error of ours is reported once, switches observation off and
never reaches the script.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from threading import get_ident
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import clip_grad
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils._python_dispatch import _disable_current_modes

from steadygrad import notices
from steadygrad.frames import user_frame
from steadygrad.monitor import Monitor
from steadygrad.patching import LOSSES, Patch, given_closure, in_forks, in_transform, real, tensors_of, wrap
from steadygrad.probes import Probe

_without_functions = torch._C.DisableTorchFunction
_dispatch_modes = torch._C._len_torch_dispatch_stack
_is_grad_enabled, _set_grad_enabled = torch.is_grad_enabled, torch._C._set_grad_enabled
_function_modes = torch._C._len_torch_function_stack


class Attachment:
    """The set of installed hooks. Use :func:`attached`."""

    def __init__(self, monitor: Monitor, on_error: Callable[[BaseException], None]) -> None:
        self.monitor = monitor
        monitor.guard = self._call
        self._on_error = on_error
        self._undo: list[Callable[[], None]] = []
        self._traced: list[Patch] = []  # what a compiler would trace
        self._live = True
        self._thread = get_ident()
        self._busy = False  # in our own code, which uses torch as well
        self._inside = 0  # the thread that is inside an outermost module's forward
        self._in_backward = False
        self._in_loss = False
        self._in_script = False
        self.seconds = 0.0

    # -- safety -------------------------------------------------------------------------------------------------

    def here(self) -> bool:
        """Only the process and thread that attached is observed: data-loader workers inherit our hooks by fork."""
        return self._live and not self._busy and get_ident() == self._thread

    def silence(self) -> None:
        """Observe nothing any more (in a forked copy of the process)."""
        self._live = False

    def _call(self, observe: Callable[..., Any], *args: Any) -> Any:
        """Run our own code: timed, without gradients, unseen by modes of the user's, and never the script's problem."""
        if not self._live or self._busy:
            return None
        started, with_grad = perf_counter(), _is_grad_enabled()
        self._busy = True
        try:
            _set_grad_enabled(False)
            with _without_functions():
                if _dispatch_modes():
                    with _disable_current_modes():
                        return observe(*args)
                return observe(*args)
        except Exception as error:
            self._live = False
            self._on_error(error)
            return None
        finally:
            _set_grad_enabled(with_grad)
            self._busy = False
            self.seconds += perf_counter() - started

    # -- installation -------------------------------------------------------------------------------------------

    def install(self) -> None:
        """Put every hook in place."""
        in_forks.add(self)
        self._undo.append(register_optimizer_step_pre_hook(self._step_begins).remove)
        self._undo.append(register_optimizer_step_post_hook(self._step_ended).remove)
        self._traced = self._patch(nn.Module, "__call__", self._module_call)
        self._traced += [patch for name in LOSSES for patch in self._patch(F, name, self._loss(name))]
        self._patch(torch.autograd, "backward", self._backward)
        self._patch(torch.autograd, "grad", self._grad)
        self._patch(torch.autograd.graph.saved_tensors_hooks, "__enter__", self._sealing)
        self._patch(clip_grad, "_get_total_norm", self._total_norm, also="get_total_norm")
        self._patch(clip_grad, "_clip_grads_with_norm_", self._clip_with_norm, also="clip_grads_with_norm_")
        self._patch(clip_grad, "_group_tensors_by_device_and_dtype", self._clip_value)
        self._listen(notices.clip_measured, self._clip_measured)
        self._listen(notices.step_skipped, self._step_skipped)
        self._patch(torch.amp.GradScaler, "scale", self._scale)
        self._patch(torch.amp.GradScaler, "step", self._scaler_step)
        self._patch(Optimizer, "__init__", self._optimizer_init)
        self._patch(torch, "compile", self._compile)
        self._patch(nn.Module, "compile", self._compile)
        self._patch(torch.jit, "script", self._script)

    def _listen(self, listeners: list[Any], listener: Any) -> None:
        listeners.append(listener)
        self._undo.append(lambda: listeners.remove(listener))

    def finish(self) -> None:
        """The script ended: close what is still open."""
        if self.here():
            self._call(self.monitor.finish)

    def remove(self) -> None:
        """Take every hook away again."""
        self._live = False
        in_forks.discard(self)
        while self._undo:
            self._undo.pop()()

    def _patch(self, holder: Any, name: str, make: Callable[[Any], Any], also: str = "") -> list[Patch]:
        """Wrap an attribute, and the name under which ``torch.nn.utils`` shows it. Not every torch has all of them."""
        original = vars(holder).get(name)
        if original is None:
            return []
        wrapper = wrap(original, make)
        patches = [Patch(holder, name, original, wrapper)]
        if vars(nn.utils).get(also) is original:
            patches.append(Patch(nn.utils, also, original, wrapper))
        for patch in patches:
            patch.put()
            self._undo.append(patch.undo)
        return patches

    # -- forward ------------------------------------------------------------------------------------------------

    def _module_call(self, original: Any) -> Any:
        monitor, call, here, is_grad = self.monitor, self._call, self.here, torch.is_grad_enabled

        def __call__(module: nn.Module, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
            if self._inside:
                probe = monitor.probe
                if probe is None or not probe.running or self._inside != get_ident():
                    return original(module, *args, **kwargs)
                return self._probed(original, probe, module, args, kwargs)
            if self._in_backward or not is_grad() or not here() or isinstance(module, nn.modules.loss._Loss):
                return original(module, *args, **kwargs)
            if in_transform():
                return original(module, *args, **kwargs)
            probe = call(monitor.forward_begins, module, args, kwargs)
            self._inside = self._thread
            try:
                if probe is None:
                    return original(module, *args, **kwargs)
                with probe.observing():
                    return self._probed(original, probe, module, args, kwargs)
            finally:
                self._inside = 0
                if probe is not None:
                    call(monitor.forward_ended)

        return __call__

    def _probed(self, original: Any, probe: Probe, module: nn.Module, args: Any, kwargs: Any) -> Any:
        probe.enter(module)
        try:
            if module.training:
                out = original(module, *args, **kwargs)
            else:
                with probe.unwatched(module):
                    out = original(module, *args, **kwargs)
        except BaseException:
            self._call(probe.abandon)
            raise
        self._call(probe.leave, module, args or tuple(kwargs.values()), out)
        return out

    def _loss(self, name: str) -> Callable[[Any], Any]:
        def make(original: Any) -> Any:
            def loss(*args: Any, **kwargs: Any) -> Any:
                if self._in_loss or self._in_backward or not torch.is_grad_enabled() or not self.here():
                    return original(*args, **kwargs)
                self._in_loss = True  # under a function mode torch calls it once more from within
                try:
                    out = original(*args, **kwargs)
                finally:
                    self._in_loss = False
                if self.monitor.looks_at_losses:
                    self._call(self.monitor.loss_called, name, args, kwargs, out)
                else:  # a guarded call costs more than all there is to do
                    self.monitor.loss_passed(args, kwargs)
                return out

            return loss

        return make

    # -- backward -----------------------------------------------------------------------------------------------

    def _backward(self, original: Any) -> Any:
        def backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            tensors = list(tensors) if isinstance(tensors, Iterator) else tensors
            roots = tensors_of(tensors)
            if self._in_backward or not self.here() or not real(roots):
                return original(tensors, *args, **kwargs)
            self._call(self.monitor.backward_begins, roots, user_frame(2))
            self._in_backward = True
            try:
                result = original(tensors, *args, **kwargs)
            finally:
                self._in_backward = False
            if self.monitor.backward_counts():
                self._call(self.monitor.backward_ended)
            return result

        return backward

    def _grad(self, original: Any) -> Any:
        def grad(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            outputs = list(outputs) if isinstance(outputs, Iterator) else outputs
            inputs = list(inputs) if isinstance(inputs, Iterator) else inputs
            roots, leaves = tensors_of(outputs), tensors_of(inputs)
            wanted = self.here() and not self._in_backward and not (kwargs.get("create_graph") or args[2:3] == (True,))
            wanted = wanted and real(roots) and bool(leaves) and all(t.is_leaf for t in leaves)
            observed = wanted and self._call(self.monitor.grad_begins, roots, leaves, user_frame(2))
            result = original(outputs, inputs, *args, **kwargs)
            if observed and len(result) == len(leaves):
                self._call(self.monitor.grad_ended, leaves, list(result))
            return result

        return grad

    def _sealing(self, original: Any) -> Any:
        def __enter__(hooks: Any) -> Any:  # noqa: N807
            if self.here():
                self._call(self.monitor.saved_tensors_are_sealed)
            return original(hooks)

        return __enter__

    # -- clipping and scaling -----------------------------------------------------------------------------------

    def _total_norm(self, original: Any) -> Any:
        def _get_total_norm(
            tensors: Any, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: bool | None = None
        ) -> Any:
            tensors = list(tensors) if isinstance(tensors, Iterator) else tensors
            if isinstance(tensors, list) and self.here() and not _dispatch_modes() and not _function_modes():
                measured = self._call(self.monitor.total_norm, tensors, norm_type, error_if_nonfinite, foreach)
                if measured is not None:
                    return measured
            return original(tensors, norm_type, error_if_nonfinite, foreach)

        return _get_total_norm

    def _clip_with_norm(self, original: Any) -> Any:
        def _clip_grads_with_norm_(
            parameters: Any, max_norm: float, total_norm: Tensor, foreach: bool | None = None
        ) -> Any:
            parameters = list(parameters) if isinstance(parameters, Iterator) else parameters
            if self.here():
                ours = foreach is None and not _dispatch_modes() and not _function_modes()
                if self._call(self.monitor.clipped, tensors_of(parameters), max_norm, total_norm, ours):
                    return None
            return original(parameters, max_norm, total_norm, foreach)

        return _clip_grads_with_norm_

    def _clip_measured(self, parameters: list[Tensor], max_norm: float, info: Any) -> None:
        if self.here():
            self._call(self.monitor.clip_measured, parameters, max_norm, info)

    def _step_skipped(self, reason: str, recorded: bool) -> None:
        if self.here():
            self._call(self.monitor.step_skipped, reason, recorded)

    def _clip_value(self, original: Any) -> Any:
        """``clip_grad_value_`` groups its gradients first: there it is seen, however the script imported it."""

        def _group_tensors_by_device_and_dtype(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            caller = sys._getframe(1)
            if caller.f_code.co_name == "clip_grad_value_" and self.here():
                self._call(self.monitor.value_clipped, list(tensors[0]), float(caller.f_locals["clip_value"]))
            return original(tensors, *args, **kwargs)

        return _group_tensors_by_device_and_dtype

    def _scale(self, original: Any) -> Any:
        def scale(scaler: Any, outputs: Any) -> Any:
            scaled = original(scaler, outputs)
            if scaler.is_enabled() and self.here():
                self._call(self.monitor.scaled, outputs, scaled, scaler)
            return scaled

        return scale

    def _scaler_step(self, original: Any) -> Any:
        def step(scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            observed = scaler.is_enabled() and self.here()
            if observed:
                self._call(self.monitor.scaler_begins, optimizer)
            result = original(scaler, optimizer, *args, **kwargs)
            if observed:
                self._call(self.monitor.scaler_ended, optimizer)
            return result

        return step

    def _optimizer_init(self, original: Any) -> Any:
        def __init__(optimizer: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
            original(optimizer, *args, **kwargs)
            if self.here():
                self._call(self.monitor.optimizer_built, optimizer)

        return __init__

    def _step_begins(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if not torch.compiler.is_compiling() and self.here():
            self._call(self.monitor.step_begins, optimizer, given_closure(args, kwargs))

    def _step_ended(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if not torch.compiler.is_compiling() and self.here() and not self.monitor.step_passed(optimizer):
            self._call(self.monitor.step_ended, optimizer, given_closure(args, kwargs))

    def _compile(self, original: Any) -> Any:
        def compile(*args: Any, **kwargs: Any) -> Any:
            if self.here() and not self.monitor.compiled:
                # What the compiler traces must be torch's own code: our wrappers would break its graphs.
                for patch in self._traced:
                    patch.undo()
                self._call(self.monitor.compiling, args[0] if args else None, user_frame(2))
            return original(*args, **kwargs)

        return compile

    def _script(self, original: Any) -> Any:
        def script(*args: Any, **kwargs: Any) -> Any:
            if self.monitor.compiled or self._in_script or not self.here():
                return original(*args, **kwargs)
            self._in_script = True
            for patch in self._traced:  # it reads the source of what is called, which must be torch's own
                patch.undo()
            try:
                return original(*args, **kwargs)
            finally:
                self._in_script = False
                for patch in self._traced:
                    patch.put()

        return script


@contextlib.contextmanager
def attached(monitor: Monitor, on_error: Callable[[BaseException], None]) -> Iterator[Attachment]:
    """Observe everything this thread trains while the context lasts.

    Args:
        monitor: receives the events.
        on_error: called at most once, when our own code fails; observation is off from then on.
    """
    attachment = Attachment(monitor, on_error)
    attachment.install()
    try:
        yield attachment
    finally:
        attachment.remove()
