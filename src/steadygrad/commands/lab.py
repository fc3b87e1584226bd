"""``steadygrad lab``: list the claims, run one or all of them, write figures, print verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from steadygrad.commands.extras import needed
from steadygrad.errors import InputError, SteadyGradError

if TYPE_CHECKING:
    from steadygrad.lab import Experiment, Result

COLOURS = {"holds": "green", "does not hold": "red", "holds only when": "yellow"}


def lab(  # noqa: PLR0917
    name: Annotated[
        str | None, typer.Argument(help="An experiment, or `all`. Leave it out for a list.", metavar="EXPERIMENT")
    ] = None,
    seeds: Annotated[int, typer.Option(min=2, help="How many seeds.")] = 5,
    first_seed: Annotated[int, typer.Option(min=0, help="The first of them.")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="Processes at a time, one thread each.")] = 2,
    out: Annotated[Path, typer.Option(help="Folder for figures, pages and stored runs.", metavar="DIR")] = Path(
        "steadygrad-lab"
    ),
    scale: Annotated[float, typer.Option(help="Share of the steps to run, for a quick look.")] = 1.0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run again what is stored.")] = False,
    png: Annotated[bool, typer.Option(help="Also write the figures as PNG (needs Chrome or Chromium).")] = True,
) -> None:
    """Put a claim of the textbooks to the test: holds, does not hold, or holds only when.

    steadygrad lab xavier-vs-kaiming --seeds 5        `steadygrad lab` lists the claims, `steadygrad lab all` runs all
    """
    with needed("torch", "scipy", "sklearn", otherwise="the lab needs {name}: pip install 'steadygrad[lab]'"):
        from steadygrad.lab import EXPERIMENTS
    if name is None:
        Console().print(listing(EXPERIMENTS))
        return
    if name != "all" and name not in EXPERIMENTS:
        raise InputError(f"there is no experiment {name!r}; `steadygrad lab` lists them")
    chosen = list(EXPERIMENTS.values()) if name == "all" else [EXPERIMENTS[name]]
    wanted = range(first_seed, first_seed + seeds)
    results = _perform(chosen, wanted, jobs=jobs, scale=scale, folder=out, fresh=fresh)
    console = Console()
    for result in results:
        console.print(verdict_table(result))
    for line in _write(results, out, "index" if name == "all" else name, png=png):
        typer.echo(line)


def listing(experiments: dict[str, Experiment]) -> Table:
    """The claims with the names to run them by."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "claim", "source"):
        table.add_column(column, overflow="fold", no_wrap=column == "name")
    for experiment in experiments.values():
        table.add_row(experiment.name, experiment.claim, Text(experiment.source, style="dim"))
    return table


def verdict_table(result: Result) -> Table:
    """The claim, the verdict, and a row for each condition."""
    verdict, experiment = result.verdict, result.experiment
    title = Text(f"{experiment.name}: {experiment.claim}\n", style="bold")
    title.append(verdict.text, style=COLOURS[verdict.word])
    table = Table(title=title, title_justify="left", title_style="", box=None, pad_edge=False, header_style="dim")
    for column in ("when", "effect", "measured [95%]", "needed", "holds"):
        table.add_column(column, justify="right" if column in ("measured [95%]", "needed") else "left")
    for finding in verdict.findings:
        holds = {True: "yes", False: "no", None: "not shown"}[finding.holds]
        needed = "> " + finding.condition.show(finding.condition.above)
        table.add_row(finding.condition.name, finding.condition.what, finding.text, needed, holds)
    table.caption = "\n"
    return table


def _perform(
    chosen: list[Experiment], seeds: range, *, jobs: int, scale: float, folder: Path, fresh: bool
) -> list[Result]:
    from steadygrad.lab import Workers, perform

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    results = []
    with Progress(*columns, console=Console(stderr=True)) as progress, Workers(jobs) as workers:
        renewed: set[str] = set()  # experiments that share their runs need them run again only once
        for experiment in chosen:
            task = progress.add_task(experiment.name, total=len(seeds))
            results.append(
                perform(
                    experiment,
                    seeds=seeds,
                    workers=workers if jobs > 1 else None,
                    scale=scale,
                    folder=folder,
                    fresh=fresh and experiment.stored_as not in renewed,
                    done=lambda _, task=task: progress.advance(task),  # type: ignore[misc]
                )
            )
            renewed.add(experiment.stored_as)
    return results


def _write(results: list[Result], out: Path, name: str, *, png: bool) -> list[str]:
    from steadygrad.figures.export import write_figure
    from steadygrad.lab.page import write_page

    said = [f"page: {write_page(results, out / f'{name}.html')}"]
    if not png:
        return said
    try:
        for result in results:
            for picture in result.experiment.pictures(result.runs):
                path = out / f"{result.experiment.name}-{picture.name}.png"
                write_figure(picture.figure, path, title=picture.title)
                said.append(f"figure: {path}")
    except SteadyGradError as error:
        said.append(f"no PNG: {error}")
    return said
