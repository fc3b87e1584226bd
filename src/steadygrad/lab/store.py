"""Runs of the lab on disk: a JSON file per experiment and seed, used again while the code that made it is the same."""

from __future__ import annotations

import hashlib
import json
import os
from functools import cache
from pathlib import Path

from steadygrad.errors import StoreError
from steadygrad.lab.experiment import Arms, Run

_HERE = Path(__file__).parent


@cache
def fingerprint(name: str) -> str:
    """What a stored run depends on: torch's version and the source of the lab's experiments.

    Example:
        >>> len(fingerprint("depth"))
        12
    """
    import torch

    digest = hashlib.sha256(f"{torch.__version__} {name}".encode())
    for path in sorted([*(_HERE / "experiments").glob("*.py"), _HERE / "training.py", _HERE / "data.py"]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _path(folder: Path, name: str, seed: int, scale: float) -> Path:
    return folder / "runs" / f"{name}-{seed}-{scale:g}.json"


def load(folder: Path, name: str, seed: int, scale: float) -> Arms | None:
    """The stored arms of a seed, or None where there are none, or they were made by other code."""
    try:
        data = json.loads(_path(folder, name, seed, scale).read_text(encoding="utf-8"))
        if data["made_by"] != fingerprint(name):
            return None
        return {arm: Run(run["curves"], run["numbers"]) for arm, run in data["arms"].items()}
    except (OSError, ValueError, KeyError, TypeError):  # missing, or cut short: run it again
        return None


def save(folder: Path, name: str, seed: int, scale: float, arms: Arms) -> None:
    """Store the arms of a seed; a reader never meets half a file.

    Raises:
        StoreError: the file cannot be written.
    """
    path = _path(folder, name, seed, scale)
    data = {
        "made_by": fingerprint(name),
        "arms": {arm: {"curves": run.curves, "numbers": run.numbers} for arm, run in arms.items()},
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(data), encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise StoreError(f"The lab keeps its runs where there is room and permission, but {path}: {error}") from error
