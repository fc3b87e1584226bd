"""What all hooks share: whether to observe at all, and the guard under which our own code runs."""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from time import perf_counter
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from steadygrad.monitor import Monitor

_without_functions = torch._C.DisableTorchFunction
_dispatch_modes = torch._C._len_torch_dispatch_stack
_is_grad_enabled, _set_grad_enabled = torch.is_grad_enabled, torch._C._set_grad_enabled


class Watch:
    """State of an attachment that its hooks share.

    Args:
        monitor: receives the events.
        on_error: called at most once, when our own code fails; observation is off from then on.
    """

    def __init__(self, monitor: Monitor, on_error: Callable[[BaseException], None]) -> None:
        self.monitor = monitor
        monitor.guard = self.call
        self.seconds = 0.0
        self.inside = 0  # the thread that is inside an outermost module's forward
        self.in_backward = False
        self._on_error = on_error
        self._live = True
        self._thread = get_ident()
        self._busy = False  # in our own code, which uses torch as well

    def here(self) -> bool:
        """Only the process and thread that attached is observed: data-loader workers inherit our hooks by fork."""
        return self._live and not self._busy and get_ident() == self._thread

    def silence(self) -> None:
        """Observe nothing any more (in a forked copy of the process, or once the hooks are gone)."""
        self._live = False

    def briefly(self, observe: Callable[..., Any], *args: Any) -> Any:
        """Run what is too little to be guarded whole: timed, and False where it raises, by when it has done nothing.

        What is run looks out for the script's modes by itself.
        """
        started = perf_counter()
        try:
            return observe(*args)
        except Exception:
            return False
        finally:
            self.seconds += perf_counter() - started

    def call(self, observe: Callable[..., Any], *args: Any) -> Any:
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
