"""Where a script sets a value that it hands to a call: the line of ``LR = 10.0`` behind ``SGD(..., lr=LR)``.

A finding about a rate points to the optimizer, but what has to be changed is a constant, a default of the command line
or an entry of a configuration. The source is only read, never run: names are followed through assignments, parameters
of the calling functions, ``argparse`` and dataclass defaults, dictionaries and imports. Where that leads to more than
one place, or to none, nothing is said.
"""

from __future__ import annotations

from types import FrameType

from steadygrad.settings.following import argument
from steadygrad.settings.handed import handed_over, is_wrapped
from steadygrad.settings.lines import BESIDE_BACKWARD, schedule_lines
from steadygrad.settings.scopes import Scope

#: What reading source that is not what it seems may raise: then no place is better than a wrong one.
_UNREADABLE = (RecursionError, ValueError, AttributeError, TypeError, IndexError, KeyError)


def set_at(frame: FrameType | None, keyword: str, position: int = -1) -> str:
    """``file:line`` where the value is set that a frame's present call gets as ``keyword`` (or at a position).

    "" where it is written in the call itself, or cannot be told.
    """
    if frame is None:
        return ""
    scope = Scope.of(frame)
    found = argument(scope, scope.calls_at(frame.f_lineno), keyword, position)
    return found if found != f"{scope.file}:{frame.f_lineno}" else ""


def places(what: str, frame: FrameType | None, script: FrameType | None = None) -> dict[str, str]:
    """Everything that a finding about a call may point to beside the call: ``file:line`` by what it is.

    Args:
        what: "optimizer", "clip" or "backward": what the frame's present line does.
        frame: the frame of the call.
        script: the user's own frame, where the call is in a package that trains for them: then the values are those
            that the user's file hands over under their usual names.
    """
    try:
        if frame is None:
            return {}
        own = script or frame
        direct = own is frame or is_wrapped(what, Scope.of(own))
        found = _places(what, own) if direct else handed_over(what, Scope.of(own))
    except _UNREADABLE:
        found = {}
    return {key: place for key, place in found.items() if place}


def _places(what: str, frame: FrameType) -> dict[str, str]:
    scope = Scope.of(frame)
    if what == "optimizer":
        rate = {"lr": set_at(frame, "lr", 1), "weight_decay": set_at(frame, "weight_decay")}
        return rate | schedule_lines(scope)
    if what == "clip":
        return {"max_norm": set_at(frame, "max_norm", 1), "clip_value": set_at(frame, "clip_value", 1)}
    return {name: line(scope) for name, line in BESIDE_BACKWARD.items()}
