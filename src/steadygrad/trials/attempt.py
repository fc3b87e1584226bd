"""Run one job in a process of its own, read its progress, and end it early where that is all it deserves."""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any, Protocol

from steadygrad.records import TrialResult
from steadygrad.trials.job import Attempt, Job
from steadygrad.trials.numbers import end_loss, thinned
from steadygrad.trials.stopping import NOT_FINITE, UNTRAINED, hopeless
from steadygrad.trials.workplace import workplace

_POLL_SECONDS = 0.1
_CHUNK = 1 << 16

#: Told how far a job is: its steps so far and its last loss.
Watcher = Callable[[Job, int, float], None]


class Process(Protocol):
    """A running child."""

    def kill(self) -> None:
        """End it and all that it has started."""

    def wait(self) -> int:
        """Wait for its end; the exit code, negative for a signal."""


class Starter(Protocol):
    """Starts children."""

    def start(self, job: Job, descriptor: int, log: Path) -> Process:
        """Start a job that writes its progress to ``descriptor`` and all else to ``log``."""


@dataclass
class _Seen:
    """What a child has told so far."""

    by_stream: dict[int, list[float]] = field(default_factory=dict)
    notes: list[tuple[str, str]] = field(default_factory=list)
    end: dict[str, Any] | None = None
    since: float | None = None  # when it told something for the first time, by ``time.monotonic()``

    def take(self, message: dict[str, Any]) -> None:
        self.since = self.since if self.since is not None else time.monotonic()
        if "end" in message:
            self.end = message["end"]
        elif "remedy" in message:
            self.notes.append((message["remedy"], message["note"]))
        else:
            loss = message["loss"]
            self.by_stream.setdefault(message["stream"], []).append(math.nan if loss is None else float(loss))

    @property
    def losses(self) -> list[float]:
        """Losses of the busiest stream, the first among equals."""
        return max(self.by_stream.values(), key=len, default=[])

    def refused(self, job: Job) -> str:
        """Why none of the remedies could be applied, or ""."""
        reasons = [note.removeprefix("refused: ") for _, note in self.notes if note.startswith("refused")]
        return "; ".join(reasons) if job.candidate.specs and len(reasons) == len(job.candidate.specs) else ""


def attempt(job: Job, starter: Starter, *, watcher: Watcher, cancelled: Event, deadline: float = math.inf) -> Attempt:
    """Run a job to its end, or for as long as it is worth it.

    Args:
        job: what to run.
        starter: starts the process.
        watcher: told how far it is, a few times a second.
        cancelled: once set, the child is ended and the result is "cut".
        deadline: the same, at this value of ``time.monotonic()``.
    """
    started = time.monotonic()
    end_at = min(deadline, started + job.timeout)
    seen, stopped = _Seen(), ""
    with tempfile.TemporaryDirectory(prefix="steadygrad-") as folder, workplace(job.script) as script:
        log = Path(folder) / "output"
        read, write = os.pipe()
        try:
            process = starter.start(replace(job, script=script), write, log)
        finally:
            os.close(write)
        with os.fdopen(read, "rb", buffering=0) as pipe:
            try:
                for message in _messages(pipe, cancelled, end_at):
                    seen.take(message)
                    stopped = stopped or _verdict(job, seen, watcher)
                    if stopped:
                        break
                if seen.end is None and not stopped and (cancelled.is_set() or time.monotonic() >= end_at):
                    stopped = "cut"
            finally:
                if seen.end is None:
                    process.kill()
                code = process.wait()
        return _result(job, seen, stopped=stopped, code=code, log=log, seconds=time.monotonic() - started)


def _messages(pipe: Any, cancelled: Event, end_at: float) -> Iterator[dict[str, Any]]:
    """Yield messages as they come, until the pipe is closed, the time is over or all is cancelled."""
    rest = b""
    while not cancelled.is_set() and time.monotonic() < end_at:
        if not select.select([pipe], [], [], _POLL_SECONDS)[0]:
            continue
        data = pipe.read(_CHUNK)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError):
                yield json.loads(line)


def _verdict(job: Job, seen: _Seen, watcher: Watcher) -> str:
    """Why to stop here, or ""."""
    losses = seen.losses
    if losses:
        watcher(job, len(losses), losses[-1])
    if seen.end is not None or job.folder:  # a control is never stopped
        return ""
    if seen.refused(job):
        return "refused"
    return hopeless(job.rule, losses)


def _result(job: Job, seen: _Seen, *, stopped: str, code: int, log: Path, seconds: float) -> Attempt:
    losses, end = seen.losses, seen.end or {}
    losses = losses if job.extend else losses[: job.rule.steps]
    loss = end_loss(losses) if losses else None
    status, note = _status(job, seen, stopped=stopped, code=code, loss=loss, log=log)
    applied = "; ".join(note.removeprefix("applied: ") for _, note in seen.notes if note.startswith("applied"))
    result = TrialResult(
        candidate=job.candidate,
        seed=job.seed,
        status=status,
        steps=len(losses),
        loss=loss,
        curve=thinned(losses),
        symptoms=tuple(dict.fromkeys(code for code, _ in end.get("symptoms", ()))),
        verdict=end.get("verdict", ""),
        seconds=seconds,
        note=note or applied,
    )
    return Attempt(
        result,
        limited=bool(end.get("limited")),
        overhead=float(end.get("overhead", 0.0)),
        script_seconds=float(end.get("seconds", seconds if seen.since is None else time.monotonic() - seen.since)),
        modules=tuple(end.get("modules", ())),
    )


def _status(job: Job, seen: _Seen, *, stopped: str, code: int, loss: float | None, log: Path) -> tuple[str, str]:
    refused = seen.refused(job)
    if refused:
        return "not-applicable", refused
    if stopped == "cut":
        return "cut", "there was no time left for it"
    if stopped == NOT_FINITE:
        return "non-finite", ""
    if stopped:
        return "stopped-early", stopped
    if code != 0 or seen.end is None or seen.end["outcome"] == "error":
        return "crashed", last_line(log) or f"exit code {code}"
    if not seen.losses:
        return "crashed", UNTRAINED
    return ("finished", "") if loss is not None else ("non-finite", "")


def last_line(log: Path) -> str:
    """The last line that a script wrote: of a traceback, the exception."""
    try:
        text = log.read_bytes()[-4000:].decode(errors="replace")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
