"""``steadygrad schedules``: draw schedules given as text, and list what can be written. Needs no torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from steadygrad.errors import InputError
from steadygrad.schedules import Schedule, parse
from steadygrad.schedules.text import WORDS, usage

if TYPE_CHECKING:
    from steadygrad.figures.schedules import Curve

app = typer.Typer(help="Draw and list learning-rate schedules.", no_args_is_help=True)

#: Values computed for each curve, at most; more than a screen is wide.
POINTS = 2000
#: Steps shown of a schedule that never ends and has no joints to go by.
ENDLESS = 1000

_Words = Annotated[
    list[str],
    typer.Argument(
        help='Schedules as text, e.g. "warmup(200) > cosine(800)". Several are compared.', metavar="SCHEDULE"
    ),
]


@app.command()
def plot(
    schedules: _Words,
    out: Annotated[Path, typer.Option(help="Where to draw: .html, or .png (needs a browser).", metavar="FILE")] = Path(
        "schedules.html"
    ),
    steps: Annotated[int | None, typer.Option(min=1, help="Steps to show. Default: all of them.")] = None,
    lr: Annotated[float | None, typer.Option(help="Show learning rates from this base rate, not factors.")] = None,
    log: Annotated[bool, typer.Option("--log", help="Logarithmic scale.")] = False,
) -> None:
    """Draw schedules against each other, and say where they start, peak, jump and end.

    steadygrad schedules plot "warmup(200) > cosine(800)" "0.1 * step(300)" --out rates.png
    """
    from steadygrad.figures.export import write_figure
    from steadygrad.figures.schedules import Curve, schedule_chart

    if lr is not None and not 0 < lr < math.inf:
        raise InputError(f"--lr is the base learning rate, a number above 0, not {lr}")
    scale = 1.0 if lr is None else lr
    parsed = [parse(text) for text in schedules]
    horizon = steps or math.ceil(max(map(shown, parsed)))
    curves = [
        Curve(
            " ".join(text.split()),
            [(t, scale * schedule(t)) for t in times(schedule, horizon)],
            [(joint.t, scale * joint.after) for joint in schedule.joints if joint.t <= horizon],
        )
        for text, schedule in zip(schedules, parsed, strict=True)
    ]
    unit = "factor of the base rate" if lr is None else "learning rate"
    chart = schedule_chart(curves, unit=unit, log=log)
    Console().print(_table(parsed, curves, scale))
    for schedule in parsed:
        for joint in schedule.joints:
            if not math.isclose(joint.before, joint.after, rel_tol=1e-9, abs_tol=1e-12):
                jump = f"from {scale * joint.before:.4g} to {scale * joint.after:.4g} at step {joint.t:g}"
                typer.echo(f"{schedule} jumps {jump}; continued(...) scales the pieces so that they join")
    typer.echo(f"drawn in {write_figure(chart.figure, out, title='Schedules')}")


def shown(schedule: Schedule) -> float:
    """How many steps of a schedule show all of it.

    Example:
        >>> shown(parse("cosine(50)")), shown(parse("warmup(200) > step(30)")), shown(parse("step(30)"))
        (50, 400, 1000)
    """
    if math.isfinite(schedule.length):
        return max(1, schedule.length)
    return 2 * schedule.joints[-1].t if schedule.joints else ENDLESS


def times(schedule: Schedule, horizon: int) -> list[int]:
    """The steps at which a curve is computed: all, or evenly spread ones and both sides of every joint.

    Example:
        >>> len(times(parse("cosine(50)"), 50)), len(times(parse("cosine(1e6)"), 1000000))
        (51, 2001)
    """
    every = max(1, math.ceil(horizon / POINTS))
    sides = {t for joint in schedule.joints for t in (math.ceil(joint.t) - 1, math.ceil(joint.t)) if 0 <= t <= horizon}
    return sorted({*range(0, horizon + 1, every), horizon, *sides})


def _table(parsed: list[Schedule], curves: list[Curve], scale: float) -> Table:
    from steadygrad.terminal.text import sparkline

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("schedule", overflow="fold")
    for column in ("steps", "first", "highest", "at step", "last"):
        table.add_column(column, justify="right")
    table.add_column("")
    for schedule, curve in zip(parsed, curves, strict=True):
        highest = max(curve.points, key=lambda point: point[1])
        ends = math.isfinite(schedule.length)
        last = scale * schedule(schedule.length) if ends else curve.points[-1][1]
        cells = (
            f"{schedule.length:g}" if ends else "endless",
            f"{curve.points[0][1]:.4g}",
            f"{highest[1]:.4g}",
            f"{highest[0]:g}",
            f"{last:.4g}",
        )
        table.add_row(Text(curve.name), *cells, sparkline([value for _, value in curve.points]))
    return table


@app.command(name="list")
def list_forms() -> None:
    """List the schedules that can be written, and how."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("written", overflow="fold")
    table.add_column("is", overflow="fold")
    for make in WORDS.values():
        first = (make.__doc__ or "").split("\n")[0].replace("``", "")
        table.add_row(Text(usage(make)), Text(first))
    Console().print(table)
    typer.echo("a > b: one after the other.  0.1 * a: scaled.  a * b: multiplied.  (...): grouped.")
