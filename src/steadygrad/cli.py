"""The ``steadygrad`` command. Only ``run`` and ``lr-find`` need torch; reading stored runs works without it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from steadygrad import __version__
from steadygrad.commands import fixing, remedies, schedules
from steadygrad.commands.extras import needed
from steadygrad.commands.lab import lab
from steadygrad.commands.script import (
    PASS_ON,
    JsonFile,
    Module,
    Quiet,
    Report,
    RunFolder,
    ScriptCommand,
    target_of,
)
from steadygrad.errors import InputError, SteadyGradError

NO_TORCH = (
    "`steadygrad {command}` needs torch, which is not installed in this Python; stored runs can be read without it. "
    "Install torch, or use the Python that the script runs with: python -m steadygrad.cli {command} ..."
)


class Commands(TyperGroup):
    """Knows a script that stands where a command belongs, and says what was meant."""

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> tuple[str | None, object, list[str]]:  # type: ignore[override,unused-ignore]
        """Find the command that the first word names."""
        if args[0] not in self.commands and args[0].endswith(".py"):
            raise InputError(f"{args[0]} is no command; to watch a script: steadygrad run {' '.join(args)}")
        return super().resolve_command(ctx, args)  # type: ignore[arg-type,unused-ignore]


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

RunPath = Annotated[
    Path, typer.Argument(help="A run folder, or its run.db. `steadygrad list` shows them.", metavar="RUN")
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"steadygrad {__version__}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Keeps neural-network training stable: watch any PyTorch script, name what is wrong, where and why."""


@app.command(context_settings=PASS_ON, cls=ScriptCommand)
def run(  # noqa: PLR0917
    context: typer.Context,
    module: Module = None,
    out: RunFolder = None,
    json_file: JsonFile = None,
    every: Annotated[int, typer.Option(min=1, help="Sample detail every N steps (rarer in long runs).")] = 10,
    fail_on: Annotated[
        str | None,
        typer.Option(help="Exit with 3 on findings of this severity: warning or critical.", metavar="SEVERITY"),
    ] = None,
    report: Report = True,
    guard: Annotated[
        bool, typer.Option("--guard", help="Skip bad steps, damp, go back, and stop before all is lost.")
    ] = False,
    quiet: Quiet = False,
    apply: Annotated[
        list[str] | None,
        typer.Option(help="Apply a remedy, e.g. clip-norm:1.0; may be repeated. See `remedies`.", metavar="REMEDY"),
    ] = None,
    trace: Annotated[bool, typer.Option(help="Replay a failing step to find where a NaN was born.")] = True,
    max_steps: Annotated[int | None, typer.Option(min=1, hidden=True)] = None,
    extend: Annotated[int, typer.Option(min=0, hidden=True)] = 0,
    seed_shift: Annotated[int | None, typer.Option(min=0, hidden=True)] = None,
    progress_fd: Annotated[int | None, typer.Option(min=3, hidden=True)] = None,
) -> None:
    """Run a training SCRIPT unmodified, watch it, and say what is wrong.

    steadygrad run train.py --lr 0.1        options of ours go before the script, the script's own after it
    """
    from steadygrad.remedies import parse_spec

    if fail_on not in (None, "warning", "critical"):
        raise typer.BadParameter(f"{fail_on!r} is neither warning nor critical", param_hint="--fail-on")
    target = target_of(context, module, "run")
    remedies = tuple(parse_spec(text) for text in apply or [])

    with needed("torch", otherwise=NO_TORCH.format(command="run")):
        from steadygrad.child import TrialOptions
        from steadygrad.runner import RunOptions
        from steadygrad.runner import run as run_target

    options = RunOptions(target, out, json_file, every, fail_on, report, quiet, trace, remedies)
    options = replace(options, trial=TrialOptions(max_steps, extend, seed_shift, progress_fd), guard=guard)
    _later.append(lambda: run_target(options))


app.command(context_settings=PASS_ON, cls=ScriptCommand)(fixing.fix)


@app.command(name="lr-find", context_settings=PASS_ON, cls=ScriptCommand)
def lr_find(  # noqa: PLR0917
    context: typer.Context,
    module: Module = None,
    low: Annotated[float, typer.Option(help="Rate of the first update.")] = 1e-6,
    high: Annotated[float, typer.Option(help="Rate of the last update.")] = 10.0,
    steps: Annotated[int, typer.Option(help="Updates from the lowest rate to the highest.")] = 100,
    out: Annotated[Path, typer.Option(help="Picture: .html, or .png (needs a browser).", metavar="FILE")] = Path(
        "lr-find.html"
    ),
    json_file: JsonFile = None,
) -> None:
    """Find a learning rate: run a training SCRIPT unmodified while the rate of its updates rises until it diverges.

    steadygrad lr-find train.py --lr 0.1    options of ours go before the script, the script's own after it
    """
    target = target_of(context, module, "lr-find")
    with needed("torch", otherwise=NO_TORCH.format(command="lr-find")):
        from steadygrad.lrfind import RangeTestOptions, find

    options = RangeTestOptions(target, low, high, steps, out, json_file)
    _later.append(lambda: find(options))


#: What is left to do once the command line has been understood: the script starts from a shallow stack.
_later: list[Callable[[], int]] = []


@app.command()
def report(
    path: RunPath,
    out: Annotated[Path | None, typer.Option(help="Where to write it. Default: report.html in the run folder.")] = None,
) -> None:
    """Write the self-contained HTML report of a stored run."""
    from steadygrad.replay import replay
    from steadygrad.report import write_report
    from steadygrad.store import Run

    with Run(path) as stored:
        target = out or (path if path.is_dir() else path.parent) / "report.html"
        # A run that was killed has stored no diagnosis, but its steps give one.
        typer.echo(write_report(stored, target, diagnosis=None if stored.diagnosis() else replay(stored)))


@app.command()
def diagnose(path: RunPath, json_file: JsonFile = None) -> None:
    """Replay detectors and diagnosis over a stored run: the same answer as live."""
    from steadygrad.jsonfile import write_json
    from steadygrad.replay import replay
    from steadygrad.store import Run, to_json
    from steadygrad.terminal import print_diagnosis

    with Run(path) as stored:
        answer = replay(stored)
        if json_file is not None:
            write_json(json_file, to_json(stored.meta, answer))
        if json_file is None or str(json_file) != "-":
            print_diagnosis(answer, stored.meta, None)


@app.command(name="list")
def list_command(
    root: Annotated[Path, typer.Argument(help="Folder that holds run folders.", metavar="FOLDER")] = Path(
        "steadygrad-runs"
    ),
) -> None:
    """List stored runs, newest first, with their verdicts."""
    from steadygrad.store import list_runs

    runs = list_runs(root)
    if not runs:
        typer.echo(f"no runs in {root}; `steadygrad run SCRIPT` makes one")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("run", "script", "UTC", "steps", "verdict"):
        table.add_column(column, justify="right" if column == "steps" else "left", overflow="fold")
    colours = {"healthy": "green", "unhealthy": "red", "unknown": "yellow"}
    for found in runs:  # as Text, because names may hold what looks like markup
        verdict = "damaged" if found.problem else found.verdict
        started = found.started[5:16].replace("T", " ")
        script = found.script if found.script.startswith("-m ") else Path(found.script).name
        row = (found.folder.name, script, started, "" if found.problem else str(found.steps))
        table.add_row(*(Text(cell) for cell in row), Text(verdict, style=colours.get(verdict, "dim")))
    Console().print(table)


@app.command()
def live(
    place: Annotated[
        Path, typer.Argument(help="A run folder, or the folder that holds run folders.", metavar="PLACE")
    ] = Path("steadygrad-runs"),
    host: Annotated[str, typer.Option(help="Address to listen at. Others can read the runs if they can reach it.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8050,
    browse: Annotated[bool, typer.Option(help="Open a browser.")] = True,
) -> None:
    """Show runs in a browser while they go on."""
    extra = "`steadygrad live` needs Dash, which is an extra: pip install 'steadygrad[dashboard]'"
    with needed("dash", "werkzeug", otherwise=extra):
        from steadygrad.dashboard import serve
    _later.append(lambda: serve(place, host=host, port=port, browse=browse))


app.command()(remedies.remedies)
app.command()(lab)
app.add_typer(schedules.app, name="schedules")


@contextmanager
def _escaped() -> Iterator[None]:
    """What standard output cannot encode is escaped: a log may be plain ASCII. For our words, not for the script's."""
    stream, errors = sys.stdout, getattr(sys.stdout, "errors", None)
    if errors is None or not hasattr(stream, "reconfigure"):
        yield
        return
    stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        stream.reconfigure(errors=errors)


def main() -> None:
    """Entry point: errors of ours are one line, never a traceback."""
    try:
        with _escaped():
            code = app(standalone_mode=False) or 0
        for work in _later:
            code = work()
    except SteadyGradError as error:
        print(f"steadygrad: {error}", file=sys.stderr)
        code = 2
    except typer.Exit as leave:
        code = leave.exit_code
    except typer.Abort:
        code = 130
    except Exception as error:
        if not hasattr(error, "show"):
            raise
        error.show()
        code = 2
    sys.exit(code)


if __name__ == "__main__":
    main()
