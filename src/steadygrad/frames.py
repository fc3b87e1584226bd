"""The user's own frames: which line is theirs, and which of their variables holds a module or a tensor."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterator
from types import FrameType, ModuleType

import torch
from torch import Tensor, nn

_OURS = (os.path.dirname(__file__) + os.sep, os.path.dirname(torch.__file__) + os.sep, "<frozen ")
_OPTIMIZER = inspect.getfile(torch.optim.Optimizer)
_STANDARD = os.path.dirname(os.__file__) + os.sep
_is_foreign: dict[str, bool] = {}
_COPIES = sys.version_info < (3, 13)
_SNAPSHOTS = frozenset({"locals", "vars", "exec", "eval"}) if _COPIES else frozenset()
#: Containers with more elements than this are not searched.
_CROWDED = 1000


def foreign(filename: str) -> bool:
    """Whether a file is ours, torch's or the standard library's."""
    known = _is_foreign.get(filename)
    if known is None:
        standard = filename.startswith(_STANDARD) and "-packages" not in filename
        known = _is_foreign[filename] = standard or filename.startswith(_OURS)
    return known


def user_frame(depth: int = 1) -> FrameType | None:
    """The innermost frame of the user's own code: not ours, not torch's, not the standard library's."""
    frame: FrameType | None = sys._getframe(depth)
    while frame is not None and foreign(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def is_stepping(optimizer: int) -> bool:
    """Whether the optimizer of that id is inside its ``step`` now. An exception may have left it unseen."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        own = frame.f_code.co_filename == _OPTIMIZER and frame.f_code.co_name == "wrapper"
        if own and id(frame.f_locals.get("self")) == optimizer:
            return True
        frame = frame.f_back
    return False


def script_frame(frame: FrameType | None) -> FrameType | None:
    """The innermost frame that lies in no installed package, from a frame outwards: what a trainer was called from.

    The frame itself where there is none: a script that is installed as well.
    """
    outer = frame
    while outer is not None and (foreign(outer.f_code.co_filename) or installed(outer.f_code.co_filename)):
        outer = outer.f_back
    return outer or frame


def installed(filename: str) -> bool:
    """Whether a file belongs to an installed package, which nobody edits."""
    return f"-packages{os.sep}" in filename


def place(frame: FrameType | None) -> str:
    """``file:line`` of a frame, as findings point to it."""
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}" if frame is not None else ""


def _locals(frame: FrameType) -> dict[str, object]:
    """Local variables; none where reading them would change a dict that the function got from ``locals()``.

    Until Python 3.13 a frame keeps the dict that is read, and so everything in it, alive: it is emptied where nobody
    else can hold it.
    """
    found = dict(frame.f_locals) if not _SNAPSHOTS.intersection(frame.f_code.co_names) else {}
    if _COPIES and found and frame.f_code.co_flags & inspect.CO_OPTIMIZED and sys.gettrace() is None:
        frame.f_locals.clear()
    return found


def frame_variables(frame: FrameType | None, levels: int = 8) -> Iterator[tuple[str, object]]:
    """Variables visible from a frame outwards: locals of the user's frames, then the globals of each."""
    scopes: list[dict[str, object]] = []
    for _ in range(levels):
        if frame is None:
            break
        if not foreign(frame.f_code.co_filename):
            yield from _locals(frame).items()
            if all(scope is not frame.f_globals for scope in scopes):
                scopes.append(frame.f_globals)
        frame = frame.f_back
    for scope in scopes:
        yield from list(scope.items())


def frame_modules(frame: FrameType | None) -> Iterator[tuple[str, nn.Module]]:
    """Modules held by variables, by lists and dicts of them, and by attributes of the user's objects."""
    for name, value in frame_variables(frame):
        if isinstance(value, nn.Module):
            yield name, value
        else:
            held = [(label, element) for label, element in _elements(name, value) if isinstance(element, nn.Module)]
            for label, element in held:
                yield (name if len(held) == 1 and label.endswith("]") else label.removeprefix("self.")), element


def find_owner(module: nn.Module, frame: FrameType | None) -> tuple[nn.Module, str]:
    """The largest module in reach that contains ``module``, and the variable it is held in."""
    best, best_name, best_size = module, "", -1
    for name, value in frame_modules(frame):
        members = list(value.modules())
        listed = len(members) == best_size and name.endswith("]") and "'" not in name  # rather than a loop's variable
        if (len(members) > best_size or listed) and any(m is module for m in members):
            best, best_name, best_size = value, name, len(members)
    return best, best_name


def variables_of(module: nn.Module, frame: FrameType | None) -> list[str]:
    """Every variable in reach that holds the module, innermost first."""
    return [name for name, value in frame_modules(frame) if value is module]


def variable_name(tensor: Tensor, frame: FrameType | None) -> str:
    """The variable (or list element, or dict entry) that holds the tensor, as the user would write it."""
    for name, value in frame_variables(frame):
        if value is tensor:
            return name
        for label, element in _elements(name, value):
            if element is tensor:
                return label
    return ""


def _elements(name: str, value: object) -> Iterator[tuple[str, object]]:
    """What a container or an object of the user's holds, with how it is written."""
    if isinstance(value, list | tuple):
        if len(value) < _CROWDED:
            yield from ((f"{name}[{i}]", element) for i, element in enumerate(value))
    elif isinstance(value, dict):
        if len(value) < _CROWDED and not name.startswith("__"):
            yield from ((f"{name}[{key!r}]", element) for key, element in list(value.items()))
    elif not isinstance(value, type | ModuleType | nn.Module | Tensor) and not callable(value):
        held = getattr(type(value), "__dict__", {}).get("__dict__") and vars(value)
        yield from ((f"{name}.{key}", element) for key, element in list((held or {}).items()))
