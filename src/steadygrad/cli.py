"""The ``steadygrad`` command. Only ``run`` needs torch; reading stored runs works without it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from steadygrad.errors import SteadyGradError

app = typer.Typer(
    help="Keeps neural-network training stable: watch any PyTorch script, name what is wrong, where and why.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}

RunPath = Annotated[Path, typer.Argument(help="A run folder, or its run.db. `steadygrad list` shows them.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the answer as JSON to FILE ('-': stdout).", metavar="FILE")]  # fmt: skip


@app.command(context_settings=_PASS_ON)
def run(
    context: typer.Context,
    module: Annotated[str | None, typer.Option("-m", help="Run a module, as `python -m` does.", metavar="MODULE")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder. Default: steadygrad-runs/<script>-<time>.", metavar="DIR")] = None,  # fmt: skip
    json_file: JsonFile = None,
    every: Annotated[int, typer.Option(min=1, help="Sample detail every N steps (rarer in long runs).")] = 10,
    fail_on: Annotated[str | None, typer.Option(help="Exit with 3 on findings of this severity: warning or critical.", metavar="SEVERITY")] = None,  # fmt: skip
    report: Annotated[bool, typer.Option(help="Write report.html into the run folder.")] = True,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing of ours but errors.")] = False,
    trace: Annotated[bool, typer.Option(help="Replay a failing step to find where a NaN was born.")] = True,
) -> None:
    """Run a training SCRIPT unmodified, watch it, and say what is wrong.

    steadygrad run train.py --lr 0.1        options of ours go before the script, the script's own after it
    """
    from steadygrad.launch import Target, resolve

    if fail_on not in (None, "warning", "critical"):
        raise typer.BadParameter(f"{fail_on!r} is neither warning nor critical", param_hint="--fail-on")
    arguments = list(context.args)
    script = None if module else (arguments.pop(0) if arguments else None)
    if script is None and module is None:
        raise typer.BadParameter("name the script to run, e.g. `steadygrad run train.py`", param_hint="SCRIPT")
    target = resolve(Target(script, module, tuple(arguments)))

    from steadygrad.runner import RunOptions
    from steadygrad.runner import run as run_target

    options = RunOptions(target, out, json_file, every, fail_on, report, quiet, trace)
    _later.append(lambda: run_target(options))


#: What is left to do once the command line has been understood: the script starts from a shallow stack.
_later: list[object] = []


@app.command()
def report(
    path: RunPath,
    out: Annotated[Path | None, typer.Option(help="Where to write it. Default: report.html in the run folder.")] = None,
) -> None:
    """Write the self-contained HTML report of a stored run."""
    from steadygrad.report import write_report
    from steadygrad.store import Run

    with Run(path) as stored:
        target = out or (path if path.is_dir() else path.parent) / "report.html"
        typer.echo(write_report(stored, target))


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
    root: Annotated[Path, typer.Argument(help="Folder that holds run folders.")] = Path("steadygrad-runs"),
) -> None:
    """List stored runs, newest first, with their verdicts."""
    from steadygrad.store import list_runs

    runs = list_runs(root)
    if not runs:
        typer.echo(f"no runs in {root}; `steadygrad run SCRIPT` makes one")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("run", "script", "started", "steps", "verdict"):
        table.add_column(column, justify="right" if column == "steps" else "left", overflow="fold")
    colours = {"healthy": "green", "unhealthy": "red", "unknown": "yellow"}
    for found in runs:
        verdict = found.verdict or "unfinished"
        styled = f"[{colours.get(verdict, 'dim')}]{verdict}[/]"
        table.add_row(str(found.folder), found.script or "", found.started or "", str(found.steps or 0), styled)
    Console().print(table)


def main() -> None:
    """Entry point: errors of ours are one line, never a traceback."""
    try:
        code = app(standalone_mode=False) or 0
        for work in _later:
            code = work()  # type: ignore[operator]
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
