"""Children as fresh Python processes, or as forks of one that has imported torch already."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path
from threading import Lock, Thread

from steadygrad.trials.attempt import Process
from steadygrad.trials.job import Job

#: Libraries that are slow to import and do nothing else when they are: a server imports those that the script uses.
PRELOADED = (
    "numpy", "scipy", "pandas", "sklearn", "matplotlib", "torchvision", "torchaudio", "transformers", "datasets",
    "accelerate", "lightning", "pytorch_lightning", "timm", "einops",
)  # fmt: skip


def threads_for(jobs: int) -> int:
    """The share of the cores that each of so many trials has."""
    return max(1, (os.cpu_count() or 1) // jobs)


def environment(threads: int) -> dict[str, str]:
    """What a child finds around it: so many threads for torch, and the same order of sets in every trial.

    What the user has set stands.
    """
    return {"PYTHONHASHSEED": "0", **os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(threads)}


def kill_group(pid: int) -> None:
    """End a child and what it started. It leads a process group of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


class FreshProcesses:
    """Starts every job as ``python -m steadygrad.cli run ...``, with so many threads for torch."""

    def __init__(self, threads: int = 1) -> None:
        self._environment = environment(threads)

    def start(self, job: Job, descriptor: int, log: Path) -> Process:
        """Start a job that writes its progress to ``descriptor`` and all else to ``log``."""
        with open(log, "wb") as output, open(job.script.stdin or os.devnull, "rb") as given:
            child = subprocess.Popen(
                [sys.executable, "-m", "steadygrad.cli", *job.command(descriptor)],
                cwd=job.script.cwd,
                stdin=given,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[descriptor],
                start_new_session=True,
                env=self._environment,
            )
        return _Fresh(child)

    def preload(self, modules: tuple[str, ...]) -> None:
        """Nothing is kept between fresh processes."""

    def close(self) -> None:
        """Nothing is left over."""


class _Fresh:
    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child

    def kill(self) -> None:
        kill_group(self._child.pid)

    def wait(self) -> int:
        return self._child.wait()


class ForkServer:
    """Starts every job as a fork of one process that has torch imported: a trial then begins in milliseconds.

    The server imports and waits; it starts no thread and touches no device, so its forks are as good as new. Used on
    Linux; elsewhere forking a process with native libraries loaded is not safe.
    """

    def __init__(self, threads: int = 1) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "steadygrad.trials.forkserver", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for us to hear
                env=environment(threads),
            )
        self._socket = ours
        self._lock = Lock()
        self._next = 0
        self._started: dict[int, Future[int]] = {}
        self._ended: dict[int, Future[int]] = {}
        Thread(target=self._listen, daemon=True).start()

    def preload(self, modules: tuple[str, ...]) -> None:
        """Have the server import what the script imports, where that is known to do nothing else."""
        self._send({"preload": [name for name in PRELOADED if name in modules]}, [])

    def start(self, job: Job, descriptor: int, log: Path) -> Process:
        """Start a job that writes its progress to ``descriptor`` and all else to ``log``."""
        with self._lock:
            self._next += 1
            ticket = self._next
            started, ended = Future[int](), Future[int]()
            self._started[ticket], self._ended[ticket] = started, ended
        with open(log, "wb") as output, open(job.script.stdin or os.devnull, "rb") as given:
            request = {"ticket": ticket, "words": job.command(descriptor), "cwd": job.script.cwd}
            self._send(request, [descriptor, output.fileno(), given.fileno()])
            return _Forked(started.result(), ended)

    def close(self) -> None:
        """End the server; forks that are still running end with it."""
        with contextlib.suppress(OSError):  # it may have gone by itself
            self._socket.shutdown(socket.SHUT_RDWR)
        try:
            self._server.wait(timeout=5)
        except subprocess.TimeoutExpired:
            kill_group(self._server.pid)
            self._server.wait()
        self._socket.close()

    def _send(self, request: dict[str, object], descriptors: list[int]) -> None:
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(request).encode()], descriptors)

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._socket.recv(1 << 16):
                answer = json.loads(data)
                futures = self._ended if "code" in answer else self._started
                futures.pop(answer["ticket"]).set_result(answer.get("code", answer.get("pid")))
        for future in [*self._started.values(), *self._ended.values()]:
            future.set_exception(ConnectionError("the server of trials has gone"))


class _Forked:
    def __init__(self, pid: int, ended: Future[int]) -> None:
        self._pid, self._ended = pid, ended

    def kill(self) -> None:
        if not self._ended.done():
            kill_group(self._pid)

    def wait(self) -> int:
        return self._ended.result()


def best_starter(threads: int) -> FreshProcesses | ForkServer:
    """Forks where that is safe, else fresh processes."""
    return ForkServer(threads) if sys.platform == "linux" else FreshProcesses(threads)
