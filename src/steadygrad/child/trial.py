"""The part of a run that only a trial has: its step limit, its seeds and its progress, behind one small object."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from steadygrad.child.limit import StepLimit
from steadygrad.child.progress import Progress
from steadygrad.child.seeding import shift_seeds
from steadygrad.records import Diagnosis, RemedySpec, StepRecord
from steadygrad.remedies import format_spec


@dataclass(frozen=True, slots=True)
class TrialOptions:
    """How a run is made a trial. Nothing set: an ordinary run.

    Args:
        max_steps: leave the script after so many steps of its busiest optimizer.
        extend: while nothing is found wrong, go on up to this many.
        seed_shift: number of the repetition, which shifts every seed of the script; None leaves seeds alone.
        progress_fd: file descriptor to which the progress is written, see :class:`~steadygrad.child.progress.Progress`.
    """

    max_steps: int | None = None
    extend: int = 0
    seed_shift: int | None = None
    progress_fd: int | None = None

    @property
    def recorded(self) -> bool:
        """Whether a run folder is made without being asked for: a trial's parent keeps what it needs."""
        return self.progress_fd is None


class Trial:
    """Holds what a trial needs from before the script's first line until after its last.

    Args:
        options: how the run is made a trial.
        gravest: asked at the limit for the gravest severity of what was found wrong, "" for nothing.
    """

    def __init__(self, options: TrialOptions, gravest: Callable[[], str]) -> None:
        self._options = options
        self._limit = options.max_steps and StepLimit(options.max_steps, extend=options.extend, gravest=gravest)
        self._progress = Progress(options.progress_fd) if options.progress_fd is not None else None
        self._said = 0
        self._started = time.perf_counter()

    def begin(self) -> None:
        """Right before the script's first line, when the observation is in place."""
        if self._options.seed_shift is not None:
            shift_seeds(self._options.seed_shift)
        if self._limit:
            self._limit.install()
        self._started = time.perf_counter()

    def step(self, record: StepRecord, notes: Sequence[tuple[RemedySpec, str]]) -> None:
        """After each step; ``notes`` is what the remedies have reported so far."""
        if self._progress is not None:
            self._tell(notes)
            self._progress.step(record)
        if self._limit:
            self._limit.count(record)

    def _tell(self, notes: Sequence[tuple[RemedySpec, str]]) -> None:
        while self._said < len(notes) and self._progress is not None:
            spec, note = notes[self._said]
            self._progress.remedy(format_spec(spec), note)
            self._said += 1

    def script_ended(self) -> float:
        """The script is over; returns the seconds it took."""
        if self._limit:
            self._limit.remove()
        return time.perf_counter() - self._started

    def answer(
        self,
        verdict: Diagnosis,
        notes: Sequence[tuple[RemedySpec, str]],
        *,
        steps: int,
        outcome: str,
        seconds: float,
        overhead: float,
    ) -> None:
        """Tell the parent how it went; the last that it hears."""
        if self._progress is None:
            return
        self._tell(notes)
        self._progress.end(
            steps=steps,
            outcome=outcome,
            limited=bool(self._limit and self._limit.reached),
            verdict=verdict.verdict,
            symptoms=[[s.code, s.severity] for s in verdict.symptoms],
            seconds=seconds,
            overhead=overhead,
            modules=sorted({name.partition(".")[0] for name in sys.modules}),
        )
