"""The process that is forked for each trial: ``python -m steadygrad.trials.forkserver FD``.

It has torch imported, waits for requests, and reports when a fork has ended. A fork becomes what a fresh
``python -m steadygrad.cli run ...`` would be: a process group of its own, the folder, the streams and the command line
that it was given.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from typing import Any

#: Requests are single packets; a command line may be long.
_PACKET = 1 << 20


def serve(channel: socket.socket) -> dict[str, Any] | None:
    """Fork for each request until the channel closes. Returns the request in the fork, None in the server."""
    wake, alarm = _told_of_children()
    running: dict[int, int] = {}
    while True:
        ready = select.select([channel.fileno(), wake], [], [])[0]
        if wake in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, 4096)
            _reap(channel, running)
        if channel.fileno() not in ready:
            continue
        data, descriptors, _, _ = socket.recv_fds(channel, _PACKET, 3)
        if not data:
            _kill(running)
            return None
        request: dict[str, Any] = json.loads(data)
        if "preload" in request:
            _import(request["preload"])
            continue
        pid = os.fork()
        if pid == 0:
            _leave_the_server(wake, alarm, channel.detach())
            _become(request, descriptors)
            return request
        _lead_a_group(pid)
        running[pid] = request["ticket"]
        for descriptor in descriptors:
            os.close(descriptor)
        channel.send(json.dumps({"ticket": request["ticket"], "pid": pid}).encode())


def _told_of_children() -> tuple[int, int]:
    """A pipe that can be read whenever a child has ended, and its other end."""
    wake, alarm = os.pipe()
    for end in (wake, alarm):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(alarm)
    return wake, alarm


def _leave_the_server(*descriptors: int) -> None:
    """In a fork: its children are its own affair, and what the server listens to is not."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for descriptor in descriptors:
        os.close(descriptor)


def _lead_a_group(pid: int) -> None:
    """Make a fork the leader of a group, by which it is killed: whoever of server and fork comes first does it."""
    with contextlib.suppress(PermissionError, ProcessLookupError):
        os.setpgid(pid, pid)


def _reap(channel: socket.socket, running: dict[int, int]) -> None:
    for pid in list(running):
        with contextlib.suppress(ChildProcessError):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                code = os.waitstatus_to_exitcode(status)
                channel.send(json.dumps({"ticket": running.pop(pid), "code": code}).encode())


def _kill(running: dict[int, int]) -> None:
    for pid in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def _import(modules: list[str]) -> None:
    for module in modules:
        with contextlib.suppress(Exception):  # the script will say what is wrong with it
            importlib.import_module(module)
    gc.collect()
    gc.freeze()  # a fork that went through all of this at its end would copy it, and take longer than its training


def _become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Take on the streams, the folder and the command line of a trial."""
    _lead_a_group(os.getpid())
    progress, output, given = descriptors
    for source, target in ((given, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(output)
    os.close(given)
    os.chdir(request["cwd"])
    words = request["words"]
    words[words.index("--progress-fd") + 1] = str(progress)  # its number here
    sys.argv = ["steadygrad", *words]
    sys.orig_argv = [sys.executable, "-m", "steadygrad.cli", *words]


def main() -> None:
    """Import, serve, and in a fork run."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(channel.fileno(), False)
    importlib.import_module("steadygrad.runner")
    importlib.import_module("steadygrad.interventions")
    _import(["torch._dynamo"])  # which the first optimizer of a script would import, for as long as torch itself takes
    from steadygrad.cli import main as run

    if serve(channel) is not None:
        run()


if __name__ == "__main__":
    main()
