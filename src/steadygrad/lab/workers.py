"""Processes that run seeds: started once, fed one task per line, one thread of computation each.

Not a pool of ``multiprocessing``: that would import the caller's main script again in every process.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from types import TracebackType

from steadygrad.errors import SteadyGradError
from steadygrad.lab.experiment import Arms, Run


class Workers:
    """Up to ``jobs`` processes at a time, started when they are first needed. Use it as a context manager."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._started: list[subprocess.Popen[str]] = []
        self._idle: queue.SimpleQueue[subprocess.Popen[str]] = queue.SimpleQueue()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        for process in self._started:
            if kind is not None:
                process.kill()
            with suppress(OSError):  # it has gone already
                process.stdin and process.stdin.close()
            process.wait()
            if process.stdout:
                process.stdout.close()

    def run(self, name: str, seeds: Iterable[int], scale: float) -> Iterator[tuple[int, Arms]]:
        """The arms of an experiment for every seed, as they are finished.

        Raises:
            SteadyGradError: a process ended before its work was done.
        """
        wanted = list(seeds)
        while len(self._started) < min(self.jobs, len(wanted)):
            self._start()
        with ThreadPoolExecutor(self.jobs) as threads:
            waiting = {threads.submit(self._ask, name, seed, scale): seed for seed in wanted}
            for future in as_completed(waiting):
                yield waiting[future], future.result()

    def _start(self) -> None:
        process = subprocess.Popen(
            [sys.executable, "-c", "from steadygrad.lab.workers import serve; serve()"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8",
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
        self._started.append(process)
        self._idle.put(process)

    def _ask(self, name: str, seed: int, scale: float) -> Arms:
        process = self._idle.get()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps([name, seed, scale]) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        finally:
            self._idle.put(process)
        if not answer:
            raise SteadyGradError(f"the process that ran {name} with seed {seed} ended; what it said is above")
        return {arm: Run(*parts) for arm, parts in json.loads(answer).items()}


def serve() -> None:
    """Answer the tasks on standard input until it ends."""
    from steadygrad.lab.running import compute

    for line in sys.stdin:
        arms = compute(*json.loads(line))
        print(json.dumps({arm: [run.curves, run.numbers] for arm, run in arms.items()}), flush=True)
