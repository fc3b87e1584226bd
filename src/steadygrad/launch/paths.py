"""Paths that the user gave, for a script that may change the working folder before they are used."""

from __future__ import annotations

from pathlib import Path
from typing import overload


@overload
def anchored(path: Path) -> Path: ...
@overload
def anchored(path: None) -> None: ...
def anchored(path: Path | None) -> Path | None:
    """The path from the root on; ``-``, which stands for a stream, is left as it is.

    >>> anchored(Path("run")) == Path.cwd() / "run", str(anchored(Path("-"))), anchored(None)
    (True, '-', None)
    """
    return path if path is None or str(path) == "-" else path.absolute()


def seen_from(start: Path, path: Path) -> Path:
    """The path as it is best shown to somebody who works in ``start``: relative where it lies inside.

    >>> seen_from(Path("/work"), Path("/work/runs/1")).as_posix(), seen_from(Path("/work"), Path("/tmp/1")).as_posix()
    ('runs/1', '/tmp/1')
    """
    return path.relative_to(start) if path.is_relative_to(start) else path
