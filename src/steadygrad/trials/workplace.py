"""A folder of its own for each trial, so that what one writes is not read or spoiled by another.

The control runs where the user stands, as ``steadygrad run`` would. What it has written there is known afterwards. If
there is anything, each trial gets a folder of links to all that was there before it: what the script writes again is
left out of them, or copied where it existed already. ``--cwd-copy`` runs everything, the control too, in real copies.
Paths outside the folder, and such as the script derives from its own ``__file__``, are not redirected by links.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from steadygrad.trials.job import Script

#: Left out of copies, and not looked at.
PASSED_OVER = frozenset({
    ".git", ".hg", ".venv", "venv", "node_modules", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache",
    "steadygrad-runs",
})  # fmt: skip
#: A folder with more entries than this is not compared; trials then share it.
MOST = 20_000

Listing = dict[str, tuple[int, int]]


def listing(folder: str, *, ours: Path | None = None) -> Listing | None:
    """Size and time of change of every file below a folder; None where there are too many.

    Args:
        folder: where to look.
        ours: a folder of our own, passed over where it lies below.
    """
    found: Listing = {}
    apart = os.path.realpath(ours) if ours is not None else ""
    for base, folders, files in os.walk(os.path.realpath(folder)):
        folders[:] = [name for name in folders if name not in PASSED_OVER and os.path.join(base, name) != apart]
        for name in files:
            path = os.path.join(base, name)
            with contextlib.suppress(OSError):
                state = os.lstat(path)
                found[os.path.relpath(path, os.path.realpath(folder))] = state.st_size, state.st_mtime_ns
        if len(found) > MOST:
            return None
    return found


def written(before: Listing | None, after: Listing | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Files that are new, and files that existed and were changed.

    >>> written({"a": (1, 1), "b": (1, 1)}, {"a": (1, 1), "b": (2, 5), "c": (1, 1)})
    (('c',), ('b',))
    """
    if before is None or after is None:
        return (), ()
    new = sorted(after.keys() - before.keys())
    changed = sorted(name for name in before.keys() & after.keys() if before[name] != after[name])
    return tuple(new), tuple(changed)


@contextlib.contextmanager
def workplace(script: Script) -> Iterator[Script]:
    """The script with a folder of its own, removed at the end; the script unchanged where it needs none."""
    if script.isolation == "none":
        yield script
        return
    with tempfile.TemporaryDirectory(prefix="steadygrad-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch, Path(script.cwd).name or "root")
        if script.isolation == "copy":
            _copy(script.cwd, folder)
            yield replace(script, words=_moved(script, folder), cwd=str(folder))
        else:
            _link(Path(script.cwd), folder, {*script.new, *script.changed})
            for name in script.changed:
                with contextlib.suppress(OSError):
                    shutil.copy2(Path(script.cwd, name), folder / name)
            yield replace(script, cwd=str(folder))


def _copy(source: str, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True, ignore=lambda _, names: PASSED_OVER & set(names))


def _link(source: Path, target: Path, own: set[str], inside: str = "") -> None:
    """Links to what is in ``source``; folders that hold files of the trial's own are made, not linked."""
    target.mkdir()
    for entry in os.scandir(source):
        name = os.path.join(inside, entry.name)
        if name in own:
            continue
        if entry.is_dir(follow_symlinks=False) and any(path.startswith(name + os.sep) for path in own):
            _link(source / entry.name, target / entry.name, own, name)
        else:
            os.symlink(source / entry.name, target / entry.name)


def _moved(script: Script, folder: Path) -> tuple[str, ...]:
    """A script that lies in the copied folder is run from the copy."""
    path = Path(script.words[0])
    if path.is_absolute() and path.is_relative_to(script.cwd):
        return (str(folder / path.relative_to(script.cwd)), *script.words[1:])
    return script.words
