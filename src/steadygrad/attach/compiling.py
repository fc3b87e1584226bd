"""Standing aside for compilers: what they trace, or read the source of, must be torch's own code."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from steadygrad.attach.watch import Watch
from steadygrad.frames import user_frame
from steadygrad.patching import Installed, Patch


class Compiling:
    """Takes hooks out of the way: for good at ``torch.compile``, for the time it takes at ``torch.jit.script``.

    Args:
        watch: the attachment's.
        traced: the hooks that would be compiled along.
    """

    def __init__(self, watch: Watch, traced: list[Patch]) -> None:
        self._watch = watch
        self._traced = traced
        self._in_script = False

    def install(self, installed: Installed) -> None:
        """Put the hooks in place."""
        installed.patch(torch, "compile", self._compile)
        installed.patch(nn.Module, "compile", self._compile)
        installed.patch(torch.jit, "script", self._script)

    def _compile(self, original: Any) -> Any:
        watch = self._watch

        def compile(*args: Any, **kwargs: Any) -> Any:
            if watch.here() and not watch.monitor.compiled:
                for patch in self._traced:  # our wrappers would break its graphs
                    patch.undo()
                watch.call(watch.monitor.compiling, args[0] if args else None, user_frame(2))
            return original(*args, **kwargs)

        return compile

    def _script(self, original: Any) -> Any:
        def script(*args: Any, **kwargs: Any) -> Any:
            if self._watch.monitor.compiled or self._in_script or not self._watch.here():
                return original(*args, **kwargs)
            self._in_script = True
            for patch in self._traced:
                patch.undo()
            try:
                return original(*args, **kwargs)
            finally:
                self._in_script = False
                for patch in self._traced:
                    patch.put()

        return script
