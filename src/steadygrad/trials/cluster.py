"""The same trials on a Ray cluster. Needs the extra ``steadygrad[ray]``."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from threading import Event
from typing import Any, Self

from steadygrad.errors import InputError
from steadygrad.trials.attempt import Watcher, attempt
from steadygrad.trials.job import Attempt, Job
from steadygrad.trials.local import Done
from steadygrad.trials.processes import FreshProcesses, threads_for

#: A trial whose worker dies is run again so many times.
RETRIES = 2
_POLL_SECONDS = 0.2


class RayBackend:
    """Runs jobs as tasks of a Ray cluster, each of them a fresh Python process on its worker.

    The script, its data and the run folder have to be where all nodes see them. A trial whose worker dies is run again
    on another; its child notices that nobody listens and ends. Rules and rounds are those of the local backend, so the
    results are the same.

    Args:
        jobs: trials at a time on a cluster of our own; one that exists decides by itself.
        address: of the cluster, as for ``ray.init``; None starts one on this machine, for as long as this takes.

    Raises:
        InputError: Ray is not installed, or the cluster cannot be reached.
    """

    def __init__(self, jobs: int = 2, *, address: str | None = None) -> None:
        self._ray = _import_ray()
        self._mine = not self._ray.is_initialized()
        if self._mine:
            workers = {} if address else {"num_cpus": jobs, "include_dashboard": False}
            try:
                self._ray.init(address=address, log_to_driver=False, logging_level="ERROR", **workers)
            except (ConnectionError, OSError, RuntimeError, ValueError) as error:
                raise InputError(
                    f"--backend ray needs a Ray cluster, but that at {address!r} cannot be reached: {error}. "
                    f"Leave out --address to start one on this machine."
                ) from error
        self._threads = os.environ.get("OMP_NUM_THREADS") or str(threads_for(jobs))
        self._task = self._ray.remote(num_cpus=1, max_retries=RETRIES)(run_remote)
        self._pending: dict[Any, Job] = {}

    def run(self, jobs: Sequence[Job], *, watcher: Watcher, done: Done, deadline: float = math.inf) -> list[Attempt]:
        """Run jobs on the cluster; results in the order of the jobs. See ``LocalBackend.run``.

        There is no news of a trial before it is over: ``watcher`` is not called.
        """
        seconds = deadline - time.monotonic()  # clocks of machines differ, the time that is left does not
        self._pending = {self._task.remote(job, self._threads, time.time() + seconds): job for job in jobs}
        results: dict[int, Attempt] = {}
        while self._pending:
            ready, _ = self._ray.wait(list(self._pending), timeout=_POLL_SECONDS)
            for reference in ready:
                job = self._pending.pop(reference)
                results[job.number] = self._ray.get(reference)
                done(job, results[job.number])
        return [results[job.number] for job in jobs]

    def close(self) -> None:
        """Cancel what is running, and end the cluster if it is ours."""
        for reference in self._pending:
            self._ray.cancel(reference, force=True)
        self._pending.clear()
        if self._mine and self._ray.is_initialized():
            self._ray.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def run_remote(job: Job, threads: str, until: float) -> Attempt:
    """Run a job on a worker; ``until`` is a time of day."""
    os.environ["OMP_NUM_THREADS"] = threads  # Ray has set its own
    deadline = time.monotonic() + (until - time.time())
    return attempt(job, FreshProcesses(), watcher=lambda *_: None, cancelled=Event(), deadline=deadline)


def _import_ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError as error:
        raise InputError("--backend ray needs Ray, which is not installed: pip install 'steadygrad[ray]'") from error
    return ray
