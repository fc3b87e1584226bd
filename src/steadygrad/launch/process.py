"""The process as Python sets it up for a script: ``__main__``, ``sys.argv``, ``sys.path`` and the code to execute."""

from __future__ import annotations

import importlib.machinery
import marshal
import os
import pkgutil
import runpy
import sys
from collections.abc import Callable
from types import CodeType, ModuleType
from typing import Any

from steadygrad.launch.targets import Target, absolute, is_bytecode

_PYC_HEADER = 16


def make_main(target: Target) -> dict[str, Any]:
    """Put a new, empty ``__main__`` in place, and the command line. Returns its namespace."""
    main = ModuleType("__main__")
    namespace = main.__dict__
    namespace["__loader__"] = importlib.machinery.BuiltinImporter
    if sys.version_info < (3, 14):
        namespace["__annotations__"] = {}
    namespace["__builtins__"] = sys.modules["builtins"]
    sys.modules["__main__"] = main
    name = target.script if target.script is not None else "-m"
    words = [name] if target.script is not None else ["-m", target.module or ""]
    sys.argv = [name, *target.argv]
    sys.orig_argv = [*sys.orig_argv[:1], *_interpreter_options(), *words, *target.argv]
    # Typer replaces the hook in the process it runs in; the script must find Python's.
    if str(getattr(sys.excepthook, "__module__", "")).startswith("typer"):
        sys.excepthook = sys.__excepthook__
    return namespace


def _interpreter_options() -> list[str]:
    """Return what stood between the interpreter and our own entry point on the command line: ``-X dev``, ``-u`` ..."""
    options: list[str] = []
    words = iter(sys.orig_argv[1:])
    for word in words:
        if not word.startswith("-") or word[-1:] in "-cm":  # the script, standard input, -c or -m
            break
        options += [word, next(words, "")] if word in ("-W", "-X", "--check-hash-based-pycs") else [word]
    return options


def program(target: Target, namespace: dict[str, Any]) -> tuple[Callable[[], object], bool]:
    """Return the call that runs the target, and whether that is a plain file. Raises what compiling it raises."""
    if target.module is not None:
        module = target.module
        _set_first_path(os.getcwd())
        return lambda: _run_module(module, True), False
    script = target.script or ""
    path = absolute(script)
    if pkgutil.get_importer(path) is not None:
        _set_first_path(path, even_if_safe=True)
        return lambda: _run_module("__main__", False), False
    _set_first_path(os.path.dirname(os.path.realpath(script)))
    return _file_program(path, namespace), True


def _set_first_path(entry: str, *, even_if_safe: bool = False) -> None:
    """Put ``entry`` where Python had put the folder of our own entry point (``-P`` means that it had put nothing)."""
    if not sys.flags.safe_path:
        sys.path[0:1] = [entry]
    elif even_if_safe:
        sys.path.insert(0, entry)


def _run_module(name: str, alter_argv: bool) -> None:
    """Use what ``python -m`` itself uses, so that even runpy's frames in a traceback are the same."""
    runpy._run_module_as_main(name, alter_argv)  # type: ignore[attr-defined]


def _file_program(path: str, namespace: dict[str, Any]) -> Callable[[], object]:
    with open(path, "rb") as file:
        content = file.read()
    namespace["__file__"] = path
    if sys.version_info < (3, 15):
        namespace["__cached__"] = None
    if is_bytecode(path, content):
        namespace["__loader__"] = importlib.machinery.SourcelessFileLoader("__main__", path)
        code: CodeType = marshal.loads(content[_PYC_HEADER:])
    else:
        namespace["__loader__"] = importlib.machinery.SourceFileLoader("__main__", path)
        code = compile(content, path, "exec", dont_inherit=True)

    def exec_file() -> None:
        exec(code, namespace)

    return exec_file
