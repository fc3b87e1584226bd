"""What can be run, and whether it can be run at all."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import pkgutil
import stat
from contextlib import suppress
from dataclasses import dataclass

from steadygrad.errors import InputError


@dataclass(frozen=True)
class Target:
    """What to run: a script (a file, or a folder or zip archive with ``__main__.py``) or a module; its arguments."""

    script: str | None
    module: str | None
    argv: tuple[str, ...] = ()


def resolve(target: Target) -> Target:
    """Return the target unchanged, or raise `InputError` when it cannot be run at all.

    A syntax error is not refused here: `launch` shows it in Python's own words.
    """
    if target.module is not None and target.script is None:
        _check_module(target.module)
    elif target.script is not None and target.module is None:
        _check_script(target.script)
    else:
        raise InputError(f"Give one script or one module to run; received {target.script!r} and {target.module!r}.")
    return target


def _check_module(module: str) -> None:
    """Look for the top-level name only: looking further would import the package."""
    top = module.partition(".")[0]
    found = False
    with suppress(ValueError):  # a module without a spec
        found = bool(top) and (
            importlib.machinery.PathFinder.find_spec(top, [os.getcwd()]) is not None
            or importlib.util.find_spec(top) is not None
        )
    if not found:
        raise InputError(
            f"Cannot run -m {module}: there is no module named {top!r} in the current folder or among the installed "
            f"packages. Change to the folder that holds it, or give the path of a script."
        )


def _check_script(script: str) -> None:
    path = absolute(script)
    if not os.path.exists(path):
        raise InputError(f"Cannot run {script!r}: there is no such file. Give the path of a Python script.")
    archive = pkgutil.get_importer(path)
    if archive is not None:
        if archive.find_spec("__main__") is None:
            raise InputError(f"Cannot run {script!r}: it has no __main__.py. Give one of the scripts in it.")
        return
    if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe can be read only once
        return
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise InputError(f"Cannot run {script!r}: it cannot be read ({error.strerror}).") from error
    if not is_bytecode(path, content):
        _check_source(script, content)


def _check_source(script: str, content: bytes) -> None:
    if b"\0" in content:
        raise InputError(f"Cannot run {script!r}: it is a binary file. Give the path of a Python script.")
    try:
        importlib.util.decode_source(content)
    except (SyntaxError, UnicodeDecodeError) as error:
        raise InputError(
            f"Cannot run {script!r}: it is not readable as Python source ({error}). "
            f"Save it as UTF-8, or declare its encoding in the first line."
        ) from error


def is_bytecode(path: str, content: bytes) -> bool:
    """Tell a compiled script by its name or first bytes, as Python does."""
    return path.endswith(".pyc") or content.startswith(importlib.util.MAGIC_NUMBER)


def absolute(script: str) -> str:
    """Join without normalising: ``./train.py`` is ``/here/./train.py`` in CPython's tracebacks."""
    if os.name == "nt":
        return os.path.abspath(script)
    return script if os.path.isabs(script) else f"{os.getcwd()}/{script}"
