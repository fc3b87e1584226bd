"""One observed run: monitor, history, recorder and reviews wired together. See :mod:`steadygrad.watching` for users."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from steadygrad.attach import Attachment
from steadygrad.detectors import detect
from steadygrad.errors import InputError, StoreError
from steadygrad.guard import events as guard_events
from steadygrad.history import History
from steadygrad.monitor import Monitor
from steadygrad.records import Diagnosis, Fact, OptimizerInfo, ParameterInfo, SiteInfo, StepRecord, Symptom
from steadygrad.replay import answer
from steadygrad.store import Recorder

#: The run is looked at for new findings every so many steps, but for no more than this share of its time.
REVIEW_EVERY = 20
REVIEW_SHARE = 1 / 800


def _ignore(_: Any) -> None:
    """Default for callbacks nobody asked for."""


def say(message: str) -> None:
    """One line of ours to the user: always stderr, never an exception."""
    with contextlib.suppress(Exception):
        print(f"steadygrad: {message}", file=sys.stderr, flush=True)


class Session:
    """Observes training while it is open, records it, and answers with a diagnosis.

    Receives everything from the monitor (it is the monitor's sink). Observation is process-wide: every optimizer that
    this thread steps is seen. If our own code fails, that is said once on stderr and the training goes on unobserved.

    Args:
        folder: run folder to record into; None keeps the run in memory only.
        every: sampling interval in steps (see :class:`~steadygrad.monitor.Monitor`).
        trace: replay a failing step to find where a NaN was born.
        meta: stored with the run.
        on_step: called after every step with the record, for a live display.
        on_finding: called once for each new symptom.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        every: int = 10,
        trace: bool = True,
        meta: Mapping[str, Any] | None = None,
        on_step: Callable[[StepRecord], None] = _ignore,
        on_finding: Callable[[Symptom], None] = _ignore,
    ) -> None:
        if every < 1:
            raise InputError(f"the sampling interval must be at least 1 step, not {every}; the default is 10")
        self._history = History()
        self.meta = {**environment(), "every": every, **(meta or {})}
        self.folder: Path | None = None
        self._recorder: Recorder | None = None
        if folder is not None:
            self._open(folder)
        self.monitor = Monitor(self, every=every, trace=trace)
        self._attachment = Attachment(self.monitor, self._failed)
        self._on_step, self._on_finding = on_step, on_finding
        self._seen: set[tuple[str, str]] = set()
        #: Codes that were announced while the script ran and do not hold at its end.
        self.withdrawn: list[str] = []
        self._next_review, self._review_from = REVIEW_EVERY, 0.0
        self._answer: Diagnosis | None = None
        self._started = time.perf_counter()
        guard_events.listeners.append(self._guarded)
        self._attachment.install()

    # -- the user's side ----------------------------------------------------------------------------------------

    @property
    def history(self) -> History:
        """Everything observed so far, in bounded memory."""
        if "observation_failed" not in self.meta:  # if so, what waits may be what failed
            self.monitor.hand_on()
        return self._history

    @property
    def closed(self) -> bool:
        """Whether the session has stopped observing."""
        return self._answer is not None

    def diagnosis(self) -> Diagnosis:
        """Symptoms, ranked causes, advice and the checks that could not be made, of the run so far."""
        if self._answer is not None:
            return self._answer
        return answer(self.history)

    def close(self) -> Diagnosis:
        """Stop observing, store the diagnosis, and return it. Calling it again returns the same answer."""
        if self._answer is None:
            self._attachment.finish()
            self._attachment.remove()
            guard_events.listeners.remove(self._guarded)
            self._answer = self.diagnosis()
            for symptom in self._answer.symptoms:
                self._announce(symptom)
            self._withdraw({code for code, _ in self._seen} - {symptom.code for symptom in self._answer.symptoms})
            seconds, share = self.overhead
            self.update_meta(overhead={"seconds": seconds, "share": share})
            self._record(lambda r: r.diagnosis(self._answer))  # type: ignore[arg-type]
            self._record(lambda r: r.close())
        return self._answer

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def overhead(self) -> tuple[float, float]:
        """Seconds spent in our own code, and their share of the time since the start."""
        seconds = self._attachment.seconds
        return seconds, seconds / max(1e-9, time.perf_counter() - self._started)

    def update_meta(self, **updates: Any) -> None:
        """Store more about the run."""
        self.meta |= updates
        self._record(lambda r: r.meta(**updates))

    # -- the monitor's side (Sink) ------------------------------------------------------------------------------

    def parameters(self, table: list[ParameterInfo]) -> None:
        """Take the parameter table."""
        self._history.parameters = list(table)
        self._record(lambda r: r.parameters(table))

    def sites(self, table: list[SiteInfo]) -> None:
        """Take the site table."""
        before, self._history.sites = self._history.sites, list(table)
        new = [site for row, site in enumerate(table) if row >= len(before) or site is not before[row]]
        if new or not table:  # an empty one takes back what was stored
            self._record(lambda r: r.sites(new))

    def optimizers(self, table: list[OptimizerInfo]) -> None:
        """Take the optimizer table."""
        self._history.optimizers = list(table)
        self._record(lambda r: r.optimizers(table))

    def fact(self, fact: Fact) -> None:
        """Take a fact."""
        self._history.add(fact)
        self._record(lambda r: r.fact(fact))
        if fact.kind == "origin":
            self._next_review, self._review_from = 0, 0.0

    def step(self, record: StepRecord) -> None:
        """Take a step."""
        self._history.add(record)
        self._on_step(record)
        self._record(lambda r: r.step(record))
        if self._history.steps >= self._next_review and time.perf_counter() >= self._review_from:
            self._review()

    def _review(self) -> None:
        started = time.perf_counter()
        self._next_review = self._history.steps + REVIEW_EVERY
        for symptom in detect(self._history):
            self._announce(symptom)
        ended = time.perf_counter()
        self._review_from = ended + (ended - started) / REVIEW_SHARE

    def _announce(self, symptom: Symptom) -> None:
        key = (symptom.code, symptom.location)
        if key not in self._seen:
            self._seen.add(key)
            self._record(lambda r: r.finding({"step": self.history.steps, **as_event(symptom)}))
            self._on_finding(symptom)

    def _withdraw(self, codes: set[str]) -> None:
        """Findings that a longer look has taken back: what was announced is not left standing without a word."""
        self.withdrawn = sorted(codes)

        def write(recorder: Recorder) -> None:
            for code in self.withdrawn:
                message = "announced earlier; over the whole run it does not hold"
                recorder.finding({"step": self._history.steps, "code": code, "withdrawn": True, "message": message})

        self._record(write)

    def _guarded(self, event: guard_events.Event) -> None:
        """A guard did something: it belongs to the record of the run."""
        self.monitor.hand_on()
        self.fact(Fact("guard", self.monitor.iteration, event.plain()))

    # -- trouble ------------------------------------------------------------------------------------------------

    def _open(self, folder: Path) -> None:
        try:
            self._recorder = Recorder(folder, self.meta)
            self.folder = folder
        except StoreError as error:
            say(f"this run is not recorded: {error}")

    def _record(self, write: Callable[[Recorder], None]) -> None:
        if self._recorder is None:
            return
        try:
            write(self._recorder)
        except StoreError as error:
            self._recorder = None
            say(f"recording stopped, the training goes on: {error}")

    def _failed(self, error: BaseException) -> None:
        """Our own code raised: say so once; the attachment has switched itself off."""
        self.meta["observation_failed"] = f"{type(error).__name__}: {error}"
        self._history.add(
            Fact("observation-failed", self.monitor.iteration, {"error": self.meta["observation_failed"]})
        )
        last = traceback.extract_tb(error.__traceback__)[-1:]
        where = f" ({os.path.basename(last[0].filename)}:{last[0].lineno})" if last else ""
        say(f"internal error, observation is off and the training goes on: {type(error).__name__}: {error}{where}")
        if os.environ.get("STEADYGRAD_DEBUG"):
            traceback.print_exception(error)


def as_event(symptom: Symptom) -> dict[str, Any]:
    """One line of findings.jsonl."""
    return {
        "code": symptom.code,
        "severity": symptom.severity,
        "location": symptom.location,
        "first_step": symptom.first_step,
        "evidence": dict(symptom.evidence),
        "message": symptom.message,
    }


def device() -> str:
    """The GPU, once the script has begun to use it: to ask earlier would fix its choice of visible devices."""
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return str(torch.cuda.get_device_name()) if in_use else platform.machine()


def environment() -> dict[str, Any]:
    """Versions and hardware, for the report."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "device": device(),
        "threads": torch.get_num_threads(),
        "pid": os.getpid(),
    }
