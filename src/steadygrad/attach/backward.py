"""Hooks on the backward pass."""

from __future__ import annotations

from typing import Any

import torch

from steadygrad.attach.watch import Watch
from steadygrad.frames import user_frame
from steadygrad.patching import Installed, real, several, tensors_of


class Backward:
    """Follows ``backward`` and ``torch.autograd.grad``."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def install(self, installed: Installed) -> None:
        """Put the hooks in place."""
        installed.patch(torch.autograd, "backward", self._backward)
        installed.patch(torch.autograd, "grad", self._grad)
        installed.patch(torch.autograd.graph.saved_tensors_hooks, "__enter__", self._sealing)

    def _backward(self, original: Any) -> Any:
        watch, monitor = self._watch, self._watch.monitor

        def backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            tensors = several(tensors)
            roots = tensors_of(tensors)
            if watch.in_backward or not watch.here() or not real(roots):
                return original(tensors, *args, **kwargs)
            frame = user_frame(2)
            if not watch.briefly(monitor.backward_is_ordinary, roots[0], frame):
                watch.call(monitor.backward_begins, roots, frame)
            watch.in_backward = True
            try:
                result = original(tensors, *args, **kwargs)
            finally:
                watch.in_backward = False
            if monitor.backward_counts():
                watch.call(monitor.backward_ended)
            return result

        return backward

    def _grad(self, original: Any) -> Any:
        watch, monitor = self._watch, self._watch.monitor

        def grad(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            outputs, inputs = several(outputs), several(inputs)
            roots, leaves = tensors_of(outputs), tensors_of(inputs)
            wanted = watch.here() and not watch.in_backward and not (kwargs.get("create_graph") or args[2:3] == (True,))
            wanted = wanted and real(roots) and bool(leaves) and all(t.is_leaf for t in leaves)
            observed = wanted and watch.call(monitor.grad_begins, roots, leaves, user_frame(2))
            result = original(outputs, inputs, *args, **kwargs)
            if observed and len(result) == len(leaves):
                watch.call(monitor.grad_ended, leaves, list(result))
            return result

        return grad

    def _sealing(self, original: Any) -> Any:
        watch = self._watch

        def __enter__(hooks: Any) -> Any:  # noqa: N807
            if watch.here():
                watch.call(watch.monitor.saved_tensors_are_sealed)
            return original(hooks)

        return __enter__
