"""Zero-code attachment: process-wide hooks that feed a :class:`~steadygrad.monitor.Monitor`, removed without a trace.

Nothing is attached to the script's own objects, so its models copy, pickle and compile as before. Every hook calls the
original first or last, outside our own error handling: an error of ours is reported once, switches observation off and
never reaches the script.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
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

from steadygrad.monitor import Monitor
from steadygrad.naming import user_frame

LOSSES = (
    "cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "mse_loss", "l1_loss",
    "smooth_l1_loss", "huber_loss", "kl_div",
)  # fmt: skip


class Attachment:
    """The set of installed hooks. Use :func:`attached`."""

    def __init__(self, monitor: Monitor, on_error: Callable[[BaseException], None]) -> None:
        self.monitor = monitor
        self._on_error = on_error
        self._undo: list[Callable[[], None]] = []
        self._live = True
        self._owner = (os.getpid(), threading.get_ident())
        self._inside = False
        self._in_backward = False
        self.seconds = 0.0

    # -- safety -------------------------------------------------------------------------------------------------

    def _here(self) -> bool:
        """Only the process and thread that attached is observed: data-loader workers inherit our hooks by fork."""
        return self._live and (os.getpid(), threading.get_ident()) == self._owner

    def _call(self, observe: Callable[..., Any], *args: Any) -> Any:
        """Run our own code: timed, and never the script's problem."""
        started = perf_counter()
        try:
            return observe(*args)
        except Exception as error:
            self._live = False
            self._on_error(error)
            return None
        finally:
            self.seconds += perf_counter() - started

    # -- installation -------------------------------------------------------------------------------------------

    def install(self) -> None:
        """Put every hook in place."""
        self._undo.append(register_optimizer_step_pre_hook(self._step_begins).remove)
        self._undo.append(register_optimizer_step_post_hook(self._step_ended).remove)
        self._traced = [self._patch(nn.Module, "__call__", self._module_call)]
        self._patch(torch.autograd, "backward", self._backward)
        self._patch(torch.autograd, "grad", self._grad)
        self._patch(clip_grad, "_get_total_norm", self._total_norm)
        self._patch(clip_grad, "_clip_grads_with_norm_", self._clip_with_norm)
        self._patch_everywhere(clip_grad, "clip_grad_value_", self._clip_value)
        self._patch(torch.amp.GradScaler, "scale", self._scale)
        self._patch(torch.amp.GradScaler, "step", self._scaler_step)
        self._patch(Optimizer, "__init__", self._optimizer_init)
        self._patch(torch, "compile", self._compile)
        self._patch(nn.Module, "compile", self._compile)
        self._traced += [self._patch(F, name, self._loss(name)) for name in LOSSES]

    def finish(self) -> None:
        """The script ended: close what is still open."""
        if self._here():
            self._call(self.monitor.finish)

    def remove(self) -> None:
        """Take every hook away again."""
        self._live = False
        while self._undo:
            self._undo.pop()()

    def _patch(self, holder: Any, name: str, make: Callable[[Any], Any]) -> Callable[[], None]:
        original = getattr(holder, name)
        wrapper = make(original)
        for attribute in ("__name__", "__qualname__", "__doc__", "__module__", "__wrapped__"):
            with contextlib.suppress(AttributeError, TypeError):
                setattr(wrapper, attribute, original if attribute == "__wrapped__" else getattr(original, attribute))
        setattr(holder, name, wrapper)
        undo = lambda: setattr(holder, name, original)  # noqa: E731
        self._undo.append(undo)
        return undo

    def _patch_everywhere(self, holder: Any, name: str, make: Callable[[Any], Any]) -> None:
        """As :meth:`_patch`, also under the names by which torch's own modules re-export the function."""
        original = getattr(holder, name)
        self._patch(holder, name, make)
        for module in (torch.nn.utils, sys.modules.get("torch.nn.utils")):
            if module is not None and getattr(module, name, None) is original:
                setattr(module, name, getattr(holder, name))
                self._undo.append(lambda module=module: setattr(module, name, original))  # type: ignore[misc]

    # -- forward ------------------------------------------------------------------------------------------------

    def _module_call(self, original: Any) -> Any:
        monitor = self.monitor
        call, here, is_grad = self._call, self._here, torch.is_grad_enabled

        def __call__(module: nn.Module, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
            if self._inside:
                probe = monitor.probe
                if probe is None or not probe.running:
                    return original(module, *args, **kwargs)
                return self._probed(original, probe, module, args, kwargs)
            if self._in_backward or not is_grad() or not here() or isinstance(module, nn.modules.loss._Loss):
                return original(module, *args, **kwargs)
            probe = call(monitor.forward_begins, module, args, kwargs)
            self._inside = True
            try:
                if probe is None:
                    return original(module, *args, **kwargs)
                with probe.observing():
                    return self._probed(original, probe, module, args, kwargs)
            finally:
                self._inside = False
                if probe is not None:
                    call(monitor.forward_ended)

        return __call__

    def _probed(self, original: Any, probe: Any, module: nn.Module, args: Any, kwargs: Any) -> Any:
        self._call(probe.enter, module)
        try:
            out = original(module, *args, **kwargs)
        except BaseException:
            self._call(probe.abandon)
            raise
        self._call(probe.leave, module, args or tuple(kwargs.values()), out)
        return out

    def _loss(self, name: str) -> Callable[[Any], Any]:
        def make(original: Any) -> Any:
            def loss(*args: Any, **kwargs: Any) -> Any:
                out = original(*args, **kwargs)
                if torch.is_grad_enabled() and not self._in_backward and self._here():
                    self._call(self.monitor.loss_called, name, args, kwargs, out)
                return out

            return loss

        return make

    # -- backward -----------------------------------------------------------------------------------------------

    def _backward(self, original: Any) -> Any:
        def backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            if self._in_backward or not self._here():
                return original(tensors, *args, **kwargs)
            roots = [tensors] if isinstance(tensors, Tensor) else list(tensors)
            tensors = roots  # a generator can be read only once
            self._call(self.monitor.backward_begins, roots, user_frame(2))
            self._in_backward = True
            try:
                return original(tensors, *args, **kwargs)
            finally:
                self._in_backward = False
                self._call(self.monitor.backward_ended)

        return backward

    def _grad(self, original: Any) -> Any:
        def grad(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            observed = self._here() and not self._in_backward and not kwargs.get("create_graph")
            outputs = outputs if isinstance(outputs, Tensor) else list(outputs)
            inputs = inputs if isinstance(inputs, Tensor) else list(inputs)
            listed = [inputs] if isinstance(inputs, Tensor) else inputs
            observed = observed and all(isinstance(t, Tensor) and t.is_leaf for t in listed)
            if observed:
                roots = [outputs] if isinstance(outputs, Tensor) else outputs
                observed = bool(self._call(self.monitor.grad_begins, roots, listed, user_frame(2)))
            result = original(outputs, inputs, *args, **kwargs)
            if observed:
                self._call(self.monitor.grad_ended, listed, list(result))
            return result

        return grad

    # -- clipping and scaling -----------------------------------------------------------------------------------

    def _total_norm(self, original: Any) -> Any:
        def _get_total_norm(tensors: Any, norm_type: float = 2.0, *args: Any, **kwargs: Any) -> Any:
            listed = [tensors] if isinstance(tensors, Tensor) else list(tensors)
            if self._here():
                measured = self._call(self.monitor.total_norm, listed, norm_type, args, kwargs)
                if measured is not None:
                    return measured
            return original(listed, norm_type, *args, **kwargs)

        return _get_total_norm

    def _clip_with_norm(self, original: Any) -> Any:
        def _clip_grads_with_norm_(parameters: Any, max_norm: float, total_norm: Tensor, *args: Any, **kw: Any) -> Any:
            parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
            if self._here() and self._call(self.monitor.clipped, parameters, float(max_norm), total_norm):
                return None  # the factor is exactly 1: scaling would read and write every gradient for nothing
            return original(parameters, max_norm, total_norm, *args, **kw)

        return _clip_grads_with_norm_

    def _clip_value(self, original: Any) -> Any:
        def clip_grad_value_(parameters: Any, clip_value: float, *args: Any, **kwargs: Any) -> Any:
            parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
            if self._here():
                self._call(self.monitor.value_clipped, parameters, float(clip_value))
            return original(parameters, clip_value, *args, **kwargs)

        return clip_grad_value_

    def _scale(self, original: Any) -> Any:
        def scale(scaler: Any, outputs: Any) -> Any:
            scaled = original(scaler, outputs)
            if scaler.is_enabled() and self._here():
                self._call(self.monitor.scaled, outputs, scaled, scaler)
            return scaled

        return scale

    def _scaler_step(self, original: Any) -> Any:
        def step(scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            observed = scaler.is_enabled() and self._here()
            if observed:
                self._call(self.monitor.scaler_begins, optimizer)
            result = original(scaler, optimizer, *args, **kwargs)
            if observed:
                self._call(self.monitor.scaler_ended, optimizer)
            return result

        return step

    # -- optimizer ----------------------------------------------------------------------------------------------

    def _optimizer_init(self, original: Any) -> Any:
        def __init__(optimizer: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
            original(optimizer, *args, **kwargs)
            if self._here():
                self._call(self.monitor.optimizer_built, optimizer)

        return __init__

    def _step_begins(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if self._here():
            self._call(self.monitor.step_begins, optimizer, _closure(args, kwargs))

    def _step_ended(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if self._here():
            self._call(self.monitor.step_ended, optimizer, _closure(args, kwargs))

    def _compile(self, original: Any) -> Any:
        def compile(*args: Any, **kwargs: Any) -> Any:  # noqa: A001
            if self._here() and not self.monitor.compiled:
                # What the compiler traces must be torch's own code: our wrappers would break its graphs.
                for undo in self._traced:
                    undo()
                self._call(self.monitor.compiling, args[0] if args else None, user_frame(2))
            return original(*args, **kwargs)

        return compile


def _closure(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether ``step`` was given a closure. The hook's args include the optimizer itself."""
    candidates = [a for a in args if not isinstance(a, Optimizer)] + [kwargs.get("closure")]
    return any(callable(c) for c in candidates)


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
