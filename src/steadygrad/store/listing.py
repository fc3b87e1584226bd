"""Where run folders go, and which there are."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from steadygrad.errors import StoreError
from steadygrad.store.reader import Run
from steadygrad.store.schema import DATABASE

#: Where runs are kept unless told otherwise, relative to the working directory.
RUNS_FOLDER = Path("steadygrad-runs")


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One line of a list of runs. ``problem`` says why a folder cannot be read; what follows is then unknown."""

    folder: Path
    started: str  # ISO 8601, UTC
    problem: str | None = None
    script: str = ""
    steps: int = 0
    verdict: str = "unknown"
    exit_code: int | None = None  # None: still going on, or killed


def list_runs(root: Path) -> list[RunSummary]:
    """The runs directly inside ``root``, newest first; damaged ones are listed with their ``problem``.

    Example:
        >>> list_runs(Path("no-such-folder"))
        []
    """
    folders = [path.parent for path in Path(root).glob(f"*/{DATABASE}")]
    return sorted((_summary(folder) for folder in folders), key=lambda run: (run.started, run.folder), reverse=True)


def _summary(folder: Path) -> RunSummary:
    try:
        with Run(folder) as run:
            meta, diagnosis = run.meta, run.diagnosis()
    except StoreError as error:
        return RunSummary(folder, _changed(folder), str(error))
    return RunSummary(
        folder=folder,
        started=str(meta.get("started") or _changed(folder)),
        script=str(meta.get("script", "")),
        steps=int(meta.get("steps", 0)),
        verdict="unknown" if diagnosis is None else diagnosis.verdict,
        exit_code=_code(meta.get("exit_code")),
    )


def _code(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _changed(folder: Path) -> str:
    with contextlib.suppress(OSError):
        return datetime.fromtimestamp(folder.stat().st_mtime, UTC).isoformat(timespec="milliseconds")
    return ""


def new_run_folder(root: Path, script_name: str) -> Path:
    """Create ``root/<script>-<time>/``, a folder no other run has, and return it.

    Args:
        root: the folder of all runs, usually :data:`RUNS_FOLDER`; created when missing.
        script_name: path or module name of the script; its directory and ``.py`` are dropped.

    Raises:
        StoreError: the folder cannot be created.

    Example:
        >>> import tempfile
        >>> new_run_folder(Path(tempfile.mkdtemp()), "examples/train.py").name.startswith("train-")
        True
    """
    stem = re.sub(r"[^\w.-]+", "-", Path(script_name).name.removesuffix(".py"))[:60].strip(".-") or "run"
    base = f"{stem}-{datetime.now():%Y%m%d-%H%M%S}"
    for number in range(1, 1000):
        folder = Path(root) / (base if number == 1 else f"{base}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if Path(root).is_dir():
                continue
            raise StoreError(_unusable(Path(root), "it is a file")) from None
        except OSError as error:
            raise StoreError(_unusable(Path(root), str(error))) from error
        return folder
    raise StoreError(_unusable(Path(root), f"it already holds 999 folders named {base}"))


def _unusable(root: Path, why: str) -> str:
    return f"Runs are kept in a folder that can be written, but {root} cannot: {why}. Choose another with --out."
