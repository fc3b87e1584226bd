"""``steadygrad fix`` without its terminal: set up, search, write the fix down, and store everything."""

from __future__ import annotations

import json
import os
import select
import stat
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from steadygrad.errors import StoreError
from steadygrad.history import History
from steadygrad.records import Candidate, Diagnosis
from steadygrad.remedies import candidates
from steadygrad.store import new_run_folder
from steadygrad.store.listing import RUNS_FOLDER
from steadygrad.trials.job import Script
from steadygrad.trials.local import Backend, LocalBackend
from steadygrad.trials.patching import with_change, write_patch
from steadygrad.trials.reading import FIX_FILE
from steadygrad.trials.result import FixResult, to_fix_json
from steadygrad.trials.search import Search
from steadygrad.trials.settings import Display, Settings

#: What is read ahead of standard input, at most.
_INPUT_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class FixOptions:
    """What ``steadygrad fix`` was asked for; see its ``--help``."""

    words: tuple[str, ...]
    steps: int = 300
    seeds: int = 3
    jobs: int = 2
    budget: float | None = None
    backend: str = "local"
    address: str | None = None
    out: Path | None = None
    write: bool = False
    cwd_copy: bool = False


def run_fix(options: FixOptions, display: Display) -> tuple[FixResult, Path]:
    """Search for a fix. Returns the result, and the run folder in which it is kept.

    Ctrl-C ends the search, not the answer: what was found so far is returned, with ``interrupted`` set.

    Raises:
        StoreError: the run folder cannot be made.
    """
    folder = _folder(options)
    with tempfile.TemporaryDirectory(prefix="steadygrad-") as scratch, _backend(options) as backend:
        isolation = "copy" if options.cwd_copy else "none"
        script = Script(options.words, os.getcwd(), _input(Path(scratch)), isolation)
        search = Search(
            script,
            Settings(options.steps, options.seeds, options.jobs, options.budget),
            folder=folder.resolve(),
            backend=backend,
            propose=_propose,
            display=display,
        )
        try:
            result = _with_patch(search.run(), search, write=options.write)
        except KeyboardInterrupt:
            backend.close()
            result = replace(search.result(), interrupted=True)
    _store(folder, result)
    return result, folder


def _with_patch(result: FixResult, search: Search, *, write: bool) -> FixResult:
    """Write the remedy into the script, see that it does the same there, and keep it where that is asked for."""
    if result.recommended is None:
        return result
    result = with_change(result, search)
    remarks = (*result.remarks, write_patch(search.script, result.patch)) if write else result.remarks
    return replace(result, remarks=remarks, seconds=search.clock.seconds)


def _propose(history: History, diagnosis: Diagnosis, limit: int) -> list[Candidate]:
    return candidates(history, diagnosis, limit=limit)


def _backend(options: FixOptions) -> Backend:
    if options.backend == "ray":
        from steadygrad.trials.cluster import RayBackend

        return RayBackend(options.jobs, address=options.address)
    return LocalBackend(options.jobs)


def _folder(options: FixOptions) -> Path:
    if options.out is None:
        return new_run_folder(RUNS_FOLDER, options.words[1] if options.words[0] == "-m" else options.words[0])
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"A search is kept in a folder that can be written, but {options.out} cannot be made: {error}. "
            f"Choose another with --out."
        ) from error
    return options.out


def _store(folder: Path, result: FixResult) -> None:
    """Keep the result beside the control run."""
    with suppress(OSError):
        (folder / FIX_FILE).write_text(json.dumps(to_fix_json(result), indent=1) + "\n")


def _input(scratch: Path) -> str:
    """What the script can read from standard input, kept so that every trial reads the same; "" for nothing."""
    with suppress(OSError, ValueError, AttributeError):
        if sys.stdin.isatty():
            return ""
        descriptor = sys.stdin.fileno()
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            return ""
        data = b""
        until = time.monotonic() + 5.0
        while len(data) < _INPUT_BYTES and time.monotonic() < until and select.select([descriptor], [], [], 0.2)[0]:
            more = os.read(descriptor, 1 << 16)
            if not more:
                break
            data += more
        if data:
            path = scratch / "stdin"
            path.write_bytes(data)
            return str(path)
    return ""
