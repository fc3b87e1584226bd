"""One writer per run folder: a lock file that names its owner, and that outlives nobody.

An advisory lock alone would be inherited by data-loader workers and kept by orphans of a killed run, so the file names
the owner's process and whoever comes next looks whether that process still lives.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from steadygrad.errors import StoreError

try:
    import fcntl
except ImportError:  # Windows: the file still names its owner, only the instant of taking over is unguarded
    fcntl = None  # type: ignore[assignment]

LOCK = "run.lock"


class FolderLock:
    """Exclusive right to write into ``folder``, from construction until :meth:`release`.

    Raises:
        StoreError: a living process (or one on another machine) is writing there.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK
        with _opened(self._path) as fd:
            owner = _owner(os.read(fd, 4096))
            if owner is not None and _may_live(owner):
                raise StoreError(_taken(folder, owner))
            os.ftruncate(fd, 0)
            os.pwrite(fd, json.dumps(_self()).encode(), 0) if hasattr(os, "pwrite") else _rewrite(fd)

    def release(self) -> None:
        """Give the folder back. Harmless when the folder is gone."""
        with contextlib.suppress(OSError):
            self._path.unlink()


def _rewrite(fd: int) -> None:
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, json.dumps(_self()).encode())


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """The lock file, held for the moment of reading and writing it; never one that was unlinked meanwhile."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if fcntl is not None:
                with contextlib.suppress(OSError):  # some network file systems have no locks
                    fcntl.flock(fd, fcntl.LOCK_EX)
            if not path.exists() or path.stat().st_ino != os.fstat(fd).st_ino:
                continue
            yield fd
            return
        finally:
            os.close(fd)


def _self() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": socket.gethostname(), "born": _born(os.getpid())}


def _owner(content: bytes) -> dict[str, Any] | None:
    """Who holds the lock; None for an empty or torn file, which a writer killed at that instant leaves."""
    try:
        owner = json.loads(content)
    except ValueError:
        return None
    return owner if isinstance(owner, dict) and isinstance(owner.get("pid"), int) else None


def _born(pid: int) -> str | None:
    """When a process started, so that a reused number is not taken for it; "" if dead, None where that is unknown."""
    if not Path("/proc/self/stat").exists():
        return None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _may_live(owner: dict[str, Any]) -> bool:
    if owner.get("host") != socket.gethostname():
        return True
    born = _born(owner["pid"])
    if born is not None:
        return born != "" and owner.get("born") in (None, born)
    if os.name != "posix":  # there, signal 0 would not ask but interrupt
        return True
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _taken(folder: Path, owner: dict[str, Any]) -> str:
    return (
        f"A run folder has one writer at a time, but {folder} is being written by process {owner['pid']} "
        f"on {owner.get('host')}. Choose another folder with --out, or delete {folder / LOCK} if that run is gone."
    )
