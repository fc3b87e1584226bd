"""Replacing attributes of torch by wrappers of them, and what wrappers ask of their arguments."""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

#: Loss functions whose inputs are looked at.
LOSSES = (
    "cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "mse_loss", "l1_loss",
    "smooth_l1_loss", "huber_loss", "kl_div",
)  # fmt: skip


_transforms, _tracing = torch._C._functorch.peek_interpreter_stack, torch._C._get_tracing_state
_inference = torch.is_inference_mode_enabled
_dispatch_modes, _function_modes = torch._C._len_torch_dispatch_stack, torch._C._len_torch_function_stack


@dataclass
class Patch:
    """An attribute replaced by a wrapper of it, and back."""

    holder: Any
    name: str
    original: Any
    wrapper: Any

    def put(self) -> None:
        """Replace it."""
        setattr(self.holder, self.name, self.wrapper)

    def undo(self) -> None:
        """Put the original back."""
        setattr(self.holder, self.name, self.original)


def wrap(original: Any, make: Callable[[Any], Any]) -> Any:
    """A wrapper that goes by the original's name: it pickles and shows as that."""
    wrapper = make(original)
    for attribute in ("__name__", "__qualname__", "__doc__", "__module__", "__wrapped__"):
        with contextlib.suppress(AttributeError, TypeError):
            setattr(wrapper, attribute, original if attribute == "__wrapped__" else getattr(original, attribute))
    return wrapper


class Installed:
    """Hooks that are in place, and the way back."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def then(self, undo: Callable[[], None]) -> None:
        """Take this to be undone as well."""
        self._undo.append(undo)

    def patch(self, holder: Any, name: str, make: Callable[[Any], Any], *, also: str = "") -> list[Patch]:
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

    def listen(self, listeners: list[Any], listener: Any) -> None:
        """Add a listener."""
        listeners.append(listener)
        self._undo.append(lambda: listeners.remove(listener))

    def undo(self) -> None:
        """Take everything away again, the last first."""
        while self._undo:
            self._undo.pop()()


def modes_are_active() -> bool:
    """Whether a dispatch or function mode sees every operation: what torch would do must then be done by torch."""
    return bool(_dispatch_modes() or _function_modes())


def several(value: Any) -> Any:
    """The argument itself, or a list of what it would give only once."""
    if type(value) in (Tensor, list, tuple):  # nearly always; to ask for an iterator takes ten times as long
        return value
    return list(value) if isinstance(value, Iterator) else value


def tensors_of(value: Any) -> list[Tensor]:
    """The tensors of an argument that may be one, or several, or something else altogether (a gradient edge)."""
    if isinstance(value, Tensor):
        return [value]
    return [t for t in value if isinstance(t, Tensor)] if isinstance(value, list | tuple) else []


def real(roots: list[Tensor]) -> bool:
    """Whether these are losses with a value: not on the meta device, not inside a functional transform."""
    for root in roots:
        if type(root) is Tensor and root.is_cpu:  # as nearly always
            continue
        if root.is_meta or type(root).__name__ == "FakeTensor":
            return False
    return bool(roots) and not in_transform()


def in_transform() -> bool:
    """Whether torch is tracing, or differentiating or vectorising a function: its tensors are no tensors."""
    return _transforms() is not None or _inference() or _tracing() is not None


def given_closure(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether ``step`` was given a closure. The hook's args include the optimizer itself."""
    if len(args) < 2 and not kwargs:
        return False
    candidates = [a for a in args if not isinstance(a, Optimizer)] + [kwargs.get("closure")]
    return any(callable(c) for c in candidates)


class Silenced(Protocol):
    """What must stop in a forked copy of the process."""

    def silence(self) -> None:
        """Stop."""


#: Silenced in every process that is forked from this one: data-loader workers inherit what we installed.
in_forks: weakref.WeakSet[Silenced] = weakref.WeakSet()


def _forked() -> None:
    for each in list(in_forks):
        each.silence()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
