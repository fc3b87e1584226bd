"""How a script ends: its traceback, exit code or signal, as CPython gives them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

#: Frames of these modules are cut from the script's tracebacks: plain Python would not have them.
UNSEEN = (
    "launch",
    "runner",
    "lrfind",
    "attach",
    "monitor",
    "batch",
    "probes",
    "graph",
    "timeflow",
    "origin",
    "naming",
    "session",
    "guard",
)


def end(error: BaseException | None) -> int:
    """Show what escaped from the script, as far as Python would, and return the exit code."""
    if error is None:
        return 0
    if isinstance(error, SystemExit):
        return _leave(error)
    code = show(error)
    if type(error) is KeyboardInterrupt and code == 1:
        return _die_of_sigint_at_the_end()
    return code


def _leave(error: SystemExit) -> int:
    """Do what ``_Py_HandleSystemExit`` does: a code that is no number is a message."""
    code: object = error.code
    if code is not None and not isinstance(code, int):
        with suppress(Exception):
            sys.stderr.write(str(code))
        with suppress(Exception):
            sys.stderr.write("\n")
    return exit_code(code)


def exit_code(code: object) -> int:
    """Return the exit code that ``SystemExit(code)`` stands for."""
    if code is None:
        return 0
    return code if isinstance(code, int) else 1


def show(error: BaseException) -> int:
    """Do what ``PyErr_Print`` does, with the hook that the script may have installed. Returns the exit code."""
    shown = (type(error), error, error.__traceback__)
    sys.last_type, sys.last_value, sys.last_traceback = shown
    if sys.version_info >= (3, 12):
        sys.last_exc = error
    hook = getattr(sys, "excepthook", None)
    sys.audit("sys.excepthook", hook, *shown)
    if hook is None:
        sys.stderr.write("sys.excepthook is missing\n")
        hook = sys.__excepthook__
    broken = _call_hook(hook, shown)
    if isinstance(broken, SystemExit):
        return _leave(broken)
    if broken is not None:
        cut_our_frames(broken)
        sys.stderr.write("Error in sys.excepthook:\n")
        sys.__excepthook__(type(broken), broken, broken.__traceback__)
        sys.stderr.write("\nOriginal exception was:\n")
        sys.__excepthook__(*shown)
    return 1


def _call_hook(hook: Callable[..., Any], shown: tuple[Any, ...]) -> BaseException | None:
    try:
        hook(*shown)
    except BaseException as error:
        return error
    return None


def flush() -> None:
    """Do what ``flush_io`` does: a stream that cannot be flushed has its say at shutdown."""
    for stream in (sys.stderr, sys.stdout):
        with suppress(Exception):
            stream.flush()


class _LastAct:
    """Kills the process by SIGINT when ``sys`` itself is torn down: after exit handlers, threads and user objects.

    A parent (a shell loop, a job scheduler) tells "interrupted" from "failed" by the signal. CPython sends it to itself
    at the very end of its shutdown, out of the reach of Python code; tearing down ``sys`` is the last moment within it.
    """

    def __init__(self) -> None:
        self._process, self._streams = os.getpid(), (sys.__stdout__, sys.__stderr__)
        self._getpid, self._kill, self._signal = os.getpid, os.kill, int(signal.SIGINT)

    def __del__(self, suppress: type = suppress, error: type = Exception) -> None:
        if self._getpid() != self._process:
            return
        for stream in self._streams:
            with suppress(error):
                stream.flush()  # type: ignore[union-attr]
        self._kill(self._process, self._signal)


def _die_of_sigint_at_the_end() -> int:
    if os.name == "nt":
        return 0xC000013A  # STATUS_CONTROL_C_EXIT
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.__dict__["_steadygrad_last_act"] = _LastAct()
    return 128 + signal.SIGINT


def cut_our_frames(error: BaseException) -> None:
    """Take our frames out of the traceback, of all that it was raised from, and of the members of groups."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        with suppress(Exception):
            each.__traceback__ = _without_ours(each.__traceback__)
        waiting += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions


def _without_ours(traceback: TracebackType | None) -> TracebackType | None:
    while traceback is not None and _is_ours(traceback):
        traceback = traceback.tb_next
    node = traceback
    while node is not None and node.tb_next is not None:
        if _is_ours(node.tb_next):
            node.tb_next = node.tb_next.tb_next
        else:
            node = node.tb_next
    return traceback


def _is_ours(traceback: TracebackType) -> bool:
    package, _, rest = str(traceback.tb_frame.f_globals.get("__name__")).partition(".")
    return package == "steadygrad" and rest.partition(".")[0] in UNSEEN
