"""``steadygrad fix``: try remedies on the user's own script, and recommend what measurably works."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steadygrad.commands.script import JsonFile, Module, Quiet, Report, RunFolder, target_of
from steadygrad.errors import InputError, StoreError

if TYPE_CHECKING:
    from steadygrad.launch import Target
    from steadygrad.trials.result import FixResult

#: Exit codes: a fix, or nothing to fix, is 0.
NO_FIX, INTERRUPTED = 1, 130
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def fix(  # noqa: PLR0917
    context: typer.Context,
    module: Module = None,
    steps: Annotated[int, typer.Option(min=20, help="Optimizer steps of every trial.")] = 300,
    seeds: Annotated[int, typer.Option(min=1, help="Repetitions of the best remedies, with other seeds.")] = 3,
    jobs: Annotated[int, typer.Option(min=1, help="Trials at a time.")] = 2,
    budget: Annotated[
        str | None,
        typer.Option(help="Time for everything, e.g. 90s, 5m. Default: 10 times the script's own.", metavar="TIME"),
    ] = None,
    backend: Annotated[str, typer.Option(help="Where trials run: local or ray.")] = "local",
    address: Annotated[
        str | None, typer.Option(help="Ray cluster to use. Default: a local one.", metavar="ADDRESS")
    ] = None,
    out: RunFolder = None,
    json_file: JsonFile = None,
    write: Annotated[bool, typer.Option("--write", help="Change the script, once the change is verified.")] = False,
    cwd_copy: Annotated[
        bool, typer.Option("--cwd-copy", help="Run everything in copies of the current folder.")
    ] = False,
    report: Report = True,
    quiet: Quiet = False,
) -> None:
    """Fix a training SCRIPT: find what is wrong, try remedies side by side, and recommend one that works.

    steadygrad fix train.py --lr 0.1        options of ours go before the script, the script's own after it
    """
    from steadygrad.jsonfile import write_json
    from steadygrad.terminal.fixing import FixDisplay, Silence, print_fix
    from steadygrad.trials.result import to_fix_json
    from steadygrad.trials.run import FixOptions, run_fix

    if backend not in ("local", "ray"):
        raise typer.BadParameter(f"{backend!r} is neither local nor ray", param_hint="--backend")
    options = FixOptions(
        words=words_of(target_of(context, module, "fix")),
        steps=steps,
        seeds=seeds,
        jobs=jobs,
        budget=seconds_of(budget) if budget is not None else None,
        backend=backend,
        address=address,
        out=out,
        write=write,
        cwd_copy=cwd_copy,
    )
    with Silence() if quiet else FixDisplay() as display:
        result, folder = run_fix(options, display)
    if json_file is not None:
        write_json(json_file, to_fix_json(result))
    page = written_report(folder) if report else None
    if not quiet:
        print_fix(result, page)
    raise typer.Exit(exit_code(result))


def written_report(folder: Path) -> Path | None:
    """The report of control and trials, or None where it cannot be written; the answer is not lost for that."""
    from steadygrad.report import write_report
    from steadygrad.store import Run
    from steadygrad.store.schema import DATABASE

    if not (folder / DATABASE).exists():  # the script failed before anything could be recorded: that is said anyway
        return None
    try:
        with Run(folder) as run:
            return write_report(run, folder / "report.html")
    except StoreError as error:
        print(f"steadygrad: no report was written: {error}", file=sys.stderr)
        return None


def words_of(target: Target) -> tuple[str, ...]:
    """The target as it is written after ``steadygrad run``; a script outside the current folder by its full path.

    Trials may run in another folder, which has all that is in this one, but nothing beside it.
    """
    if target.module is not None:
        return ("-m", target.module, *target.argv)
    script = os.path.normpath(target.script or "")
    return (os.path.abspath(script) if script.startswith("..") else script, *target.argv)


def seconds_of(text: str) -> float:
    """A time as a user writes it.

    >>> seconds_of("90s"), seconds_of("5m"), seconds_of("1.5h"), seconds_of("20")
    (90.0, 300.0, 5400.0, 20.0)
    """
    number, unit = (text[:-1], _UNITS[text[-1]]) if text[-1:] in _UNITS else (text, 1.0)
    try:
        seconds = float(number) * unit
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise InputError(f"--budget is a time such as 90s, 5m or 2h, not {text!r}")
    return seconds


def exit_code(result: FixResult) -> int:
    """0 for a fix or where nothing is to be fixed."""
    if result.interrupted:
        return INTERRUPTED
    return 0 if result.verdict in ("fixed", "nothing-to-fix") else NO_FIX
