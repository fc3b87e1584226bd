"""The losses that ``backward`` was called on, in a script nobody has changed."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor

from steadygrad.patching import Patch, tensors_of, wrap


class Losses:
    """Remembers the losses since the last optimizer step, as they were before any GradScaler multiplied them."""

    def __init__(self) -> None:
        self._seen: list[Tensor] = []
        self._last: list[Tensor] = []
        self._behind: dict[int, tuple[weakref.ref[Tensor], Tensor]] = {}
        self._patches: list[Patch] = []
        self.live = True

    def install(self) -> None:
        """Look at every ``backward`` and every scaled loss from now on."""
        for holder, name, make in (
            (torch.autograd, "backward", self._backward),
            (torch.amp.GradScaler, "scale", self._scale),
        ):
            original = vars(holder)[name]
            patch = Patch(holder, name, original, wrap(original, make))
            patch.put()
            self._patches.append(patch)

    def remove(self) -> None:
        """Look no more."""
        self.live = False
        while self._patches:
            self._patches.pop().undo()

    def take(self) -> float | None:
        """The mean loss of the step that begins now; that of the step before, where several optimizers share one."""
        if self._seen:
            self._last, self._seen = self._seen, []
            self._behind.clear()
        values = [float(loss) for loss in self._last]
        return sum(values) / len(values) if values else None

    def _backward(self, original: Any) -> Any:
        def backward(tensors: Any, *args: Any, **kwargs: Any) -> Any:
            roots = tensors_of(tensors)
            if self.live and len(roots) == 1 and roots[0].numel() == 1 and not torch.compiler.is_compiling():
                kept = self._behind.get(id(roots[0]))
                self._seen.append((kept[1] if kept is not None and kept[0]() is roots[0] else roots[0]).detach())
                del self._seen[:-1024]  # a script that never steps
            return original(tensors, *args, **kwargs)

        return backward

    def _scale(self, original: Any) -> Any:
        def scale(scaler: Any, outputs: Any) -> Any:
            scaled = original(scaler, outputs)
            if self.live and isinstance(outputs, Tensor) and isinstance(scaled, Tensor):
                self._behind[id(scaled)] = weakref.ref(scaled), outputs.detach()
            return scaled

        return scale
