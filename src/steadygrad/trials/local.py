"""Trials on this machine, a few at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Protocol, Self

from steadygrad.trials.attempt import Watcher, attempt
from steadygrad.trials.job import Attempt, Job
from steadygrad.trials.processes import FreshProcesses, best_starter, threads_for


class Backend(Protocol):
    """Where trials run."""

    def run(self, jobs: Sequence[Job], *, watcher: Watcher, done: Done, deadline: float = math.inf) -> list[Attempt]:
        """Run jobs, at most a few at a time; results in the order of the jobs."""

    def close(self) -> None:
        """End what is running and give everything back."""

    def __enter__(self) -> Self:
        """Use it as a context that closes it."""

    def __exit__(self, *_: object) -> None:
        """Close it."""


class Done(Protocol):
    """Told that a job is over."""

    def __call__(self, job: Job, attempt: Attempt, /) -> object:
        """Take a job and its outcome."""


class LocalBackend:
    """Runs jobs as processes of this machine.

    Args:
        jobs: how many at a time.
        fresh: start each as a new Python process rather than as a fork of one that has torch imported.
    """

    def __init__(self, jobs: int = 2, *, fresh: bool = False) -> None:
        self._pool = ThreadPoolExecutor(jobs)
        threads = threads_for(jobs)
        self._starter = FreshProcesses(threads) if fresh else best_starter(threads)
        self._cancelled = Event()

    def run(self, jobs: Sequence[Job], *, watcher: Watcher, done: Done, deadline: float = math.inf) -> list[Attempt]:
        """Run jobs, at most a few at a time; results in the order of the jobs.

        Args:
            jobs: what to run.
            watcher: told how far each is.
            done: told of each that is over.
            deadline: value of ``time.monotonic()`` at which what still runs is ended and counts as "cut".
        """

        def run_one(job: Job) -> Attempt:
            result = attempt(job, self._starter, watcher=watcher, cancelled=self._cancelled, deadline=deadline)
            if result.modules:
                self._starter.preload(result.modules)
            done(job, result)
            return result

        return list(self._pool.map(run_one, jobs))

    def cancel(self) -> None:
        """End what is running, and start nothing more."""
        self._cancelled.set()

    def close(self) -> None:
        """End what is running and give everything back."""
        self.cancel()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._starter.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
