"""A copy of the process in which something may be tried that must not reach the script."""

from __future__ import annotations

import contextlib
import json
import math
import os
import select
import signal
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

try:
    import fcntl
except ImportError:  # Windows, where nothing is forked
    fcntl = None  # type: ignore[assignment]

TIMEOUT_SECONDS = 20.0
COLLECTIVES = (
    "all_gather", "all_gather_into_tensor", "all_gather_object", "all_reduce", "all_to_all", "all_to_all_single",
    "barrier", "broadcast", "broadcast_object_list", "gather", "recv", "reduce", "reduce_scatter",
    "reduce_scatter_tensor", "scatter", "send",
)  # fmt: skip


def in_forked_copy(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run ``work`` in a forked child and return its JSON-ready answer; a child that hangs is ended and said so."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork with threads: as torch's own data loader does
        child = os.fork()
    if child == 0:
        _child(work, write)
    os.close(write)
    try:
        answer = _read_all(read, time.monotonic() + TIMEOUT_SECONDS)
    finally:
        os.close(read)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # the script may reap children itself
            os.waitpid(child, 0)
    if not answer:
        return {"why": f"the replay did not finish within {TIMEOUT_SECONDS:.0f} s"}
    result: dict[str, Any] = json.loads(answer)
    return result


def _child(work: Callable[[], dict[str, Any]], write: int) -> None:
    """Never returns."""
    try:
        _cut_off(write)
        torch.set_num_threads(1)
        _alone()
        warnings.simplefilter("ignore")
        with torch.autograd.set_detect_anomaly(True, check_nan=False):
            answer = work()
    except BaseException as error:
        answer = {"why": f"the replay raised {type(error).__name__}: {error}"[:300]}
    try:
        with open(write, "wb", closefd=False) as pipe:
            pipe.write(json.dumps(_jsonable(answer)).encode())
    finally:
        os._exit(0)


def _cut_off(answer: int) -> None:
    """Nothing that the copy prints, logs or sends may arrive: every descriptor that can be written to leads nowhere."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in _descriptors():
        if descriptor not in (answer, null):
            with contextlib.suppress(OSError):
                if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
                    os.dup2(null, descriptor)


def _alone() -> None:
    """No other process takes part in the copy's work: a replica runs by itself, and nobody is waited for."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    from torch.nn.parallel import DistributedDataParallel

    def forward(model: Any, *args: Any, **kwargs: Any) -> Any:
        return model.module(*args, **kwargs)

    def absent(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the step communicates with other processes")

    DistributedDataParallel.forward = forward  # type: ignore[assignment,method-assign]
    for name in COLLECTIVES:
        setattr(torch.distributed, name, absent)


def _descriptors() -> list[int]:
    for folder in ("/proc/self/fd", "/dev/fd"):
        with contextlib.suppress(OSError):
            return [int(name) for name in os.listdir(folder)]
    return list(range(256))


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _jsonable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _read_all(descriptor: int, deadline: float) -> bytes:
    chunks: list[bytes] = []
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([descriptor], [], [], left)[0]:
            break
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            return b"".join(chunks)
        chunks.append(chunk)
    return b""
