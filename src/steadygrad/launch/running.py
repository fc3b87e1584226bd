"""Run the target between the two calls that switch the watching on and off."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from steadygrad.launch.ending import cut_our_frames, end, exit_code, flush, show
from steadygrad.launch.process import make_main, program
from steadygrad.launch.targets import Target


@dataclass(frozen=True)
class Outcome:
    """How the script ended. ``error`` is what escaped from it: None when ``kind`` is "finished"."""

    kind: str  # finished | exit (SystemExit) | interrupt (Ctrl-C) | error
    exit_code: int
    error: BaseException | None = None


def launch(target: Target, *, before: Callable[[], object], after: Callable[[Outcome], object]) -> int:
    """Run the target as ``__main__`` and return the exit code that the caller must end the process with.

    ``before`` is called right before the target's first line and ``after`` once it has ended, however it ended, and
    before its traceback is shown. When the target leaves non-daemon threads running, ``after`` waits for them: it
    becomes the first exit handler. ``after`` runs only in the process that called `launch`, not in its forks. A target
    that does not compile never starts, so neither is called. After Ctrl-C the returned code is 130, and the process
    dies by SIGINT at the end of its shutdown, as CPython's does.
    """
    namespace = make_main(target)
    try:
        run, is_file = program(target, namespace)
    except Exception as error:
        failure = error.with_traceback(None)
    else:
        return _run(run, before, after, namespace if is_file else None)
    return show(failure)


def _run(
    run: Callable[[], object],
    before: Callable[[], object],
    after: Callable[[Outcome], object],
    file_namespace: dict[str, Any] | None,
) -> int:
    """Run, then end the way CPython's ``pyrun_file`` does, or for modules and archives ``pymain_run_module``."""
    process, escaped = os.getpid(), _escaped(run, before)
    if file_namespace is not None:  # only then: with -m a traceback may overtake what was printed before it
        flush()
    _after(after, _outcome(escaped), process)
    code = end(escaped)
    if file_namespace is not None and not isinstance(escaped, SystemExit):
        for name in ("__file__", "__cached__"):  # CPython takes these back: exit handlers do not find them
            file_namespace.pop(name, None)
    escaped = None  # or the script's frames would keep this frame alive, and this frame the script's objects
    return code


def _escaped(run: Callable[[], object], before: Callable[[], object]) -> BaseException | None:
    """Return what escaped from the program rather than raise it: no handler of ours may be active when it is shown."""
    try:
        try:
            before()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            _say(f"could not start watching, the script runs without it ({_brief(error)})")
        run()
    except BaseException as error:
        cut_our_frames(error)
        return error
    return None


def _outcome(error: BaseException | None) -> Outcome:
    if error is None:
        return Outcome("finished", 0)
    if isinstance(error, SystemExit):
        return Outcome("exit", exit_code(error.code), error)
    if type(error) is KeyboardInterrupt:
        return Outcome("interrupt", 128 + signal.SIGINT, error)
    return Outcome("error", 1, error)


def _after(after: Callable[[Outcome], object], outcome: Outcome, process: int) -> None:
    def finish() -> None:
        if os.getpid() != process:
            return
        try:
            after(outcome)
        except BaseException as error:
            _say(f"could not finish watching, the script is not affected ({_brief(error)})")

    if os.getpid() == process and _threads_left():
        atexit.register(finish)
    else:
        finish()


def _threads_left() -> bool:
    mine = threading.current_thread()
    return any(thread is not mine and not thread.daemon for thread in threading.enumerate())


def _say(line: str) -> None:
    with suppress(Exception):
        print(f"steadygrad: {line}", file=sys.stderr)


def _brief(error: BaseException) -> str:
    with suppress(Exception):
        return " ".join(f"{type(error).__name__}: {error}".split())
    return type(error).__name__
