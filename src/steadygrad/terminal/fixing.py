"""What ``steadygrad fix`` shows: a bar for every trial that runs, a line for each that is over, and the answer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Self

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from steadygrad.records import TrialResult
from steadygrad.terminal.text import one_line, print_parts, sparkline
from steadygrad.trials.job import Attempt, Job, title
from steadygrad.trials.judge import Standing
from steadygrad.trials.result import FixResult
from steadygrad.trials.words import cost, gain, headline, loss_of, outcome, patch_state, state
from steadygrad.wording import count

_STYLES = {"good": "green", "fair": "yellow", "bad": "red", "nothing": "dim"}
_WIDTH = 34
_ROWS = 14


class Silence:
    """A display that shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def say(self, text: str) -> None:
        """Keep still."""

    def added(self, jobs: Sequence[Job]) -> None:
        """Keep still."""

    def progress(self, job: Job, steps: int, loss: float) -> None:
        """Keep still."""

    def over(self, job: Job, attempt: Attempt, /) -> None:
        """Keep still."""


class FixDisplay:
    """Progress of a search on standard error: live bars on a terminal, a line for each trial elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._progress = Progress(
            TextColumn("  {task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[shown]}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._tasks: dict[int, TaskID] = {}
        self._lock = Lock()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """A phase begins."""
        self._print(Text(text, style="bold"))

    def added(self, jobs: Sequence[Job]) -> None:
        """These jobs are going to run: a bar appears with the first step of each."""

    def progress(self, job: Job, steps: int, loss: float) -> None:
        """A job is so far; its bar appears with its first step."""
        with self._lock:
            if job.number not in self._tasks:
                name = _fit(job.name)
                self._tasks[job.number] = self._progress.add_task(name, total=job.rule.steps, shown="")
            shown = f"step {steps:>4}  loss {_number(loss)}"
            self._progress.update(self._tasks[job.number], completed=steps, shown=shown)

    def over(self, job: Job, attempt: Attempt, /) -> None:
        """A job is over: its bar gives way to a line."""
        with self._lock:
            task = self._tasks.pop(job.number, None)
            if task is not None:
                self._progress.remove_task(task)
        result = attempt.result
        line = Text.assemble("  ", _fit(job.name).ljust(_WIDTH), f" {_number(result.loss):>10}  ")
        line.append(_curve(result).ljust(16) + "  ", style="blue")
        self._print(line.append_text(_state(result)))

    def _print(self, text: Text) -> None:
        self._progress.console.print(text, no_wrap=True, overflow="ellipsis", highlight=False)


def print_fix(result: FixResult, report: Path | None, console: Console | None = None) -> None:
    """Print the answer to standard error: what is wrong, what was tried, what helps and the lines to change."""
    print_parts(_parts(result, report), console)


def _parts(result: FixResult, report: Path | None) -> Iterator[RenderableType]:
    yield Text("")
    yield _headline(result)
    if result.diagnosis.causes and result.verdict != "nothing-to-fix":
        cause = result.diagnosis.causes[0]
        where = f" at {one_line(cause.location)}" if cause.location else ""
        yield Text.assemble("  cause    ", (cause.code, "bold"), where, f", {cause.confidence:.0%}")
        yield from (_indented(Text(one_line(line), style="dim")) for line in cause.evidence[:2])
    if result.recommended is not None:
        yield from _answer(result, result.recommended)
    if result.standings:
        yield Padding(_table(result), (1, 0, 0, 2))
    yield from _change(result)
    yield from (_indented(Text(one_line(remark), style="yellow"), 2) for remark in result.remarks)
    yield Text(f"  {cost(result)}", style="dim")
    if report is not None:
        yield Text(f"  report: {report}", style="dim", no_wrap=True)


def _indented(text: Text, by: int = 11) -> RenderableType:
    """Text that wraps below its own beginning."""
    return Padding(text, (0, 0, 0, by))


def _headline(result: FixResult) -> Text:
    style = "bold green" if result.verdict in ("fixed", "nothing-to-fix") else "bold yellow"
    name = result.verdict.replace("-", " ").upper()
    return Text.assemble(
        (name, style), f"  {one_line(result.script)}, {count(result.steps, 'step')}: {one_line(headline(result))}"
    )


def _answer(result: FixResult, best: Standing) -> Iterator[RenderableType]:
    yield Text.assemble("  remedy   ", (title(best.candidate), "bold green"))
    if best.candidate.why:
        yield _indented(Text(one_line(best.candidate.why), style="dim"))
    yield Text.assemble("  before   ", (_curve(result.control[0]), "red"))
    yield Text.assemble("  after    ", (_curve(best.first), "green"))
    yield _indented(Text(outcome(result, best)))


def _table(result: FixResult) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "remedy", "loss", "", "state"):
        table.add_column(name, justify="right" if name == "loss" else "left", overflow="fold")
    table.columns[1].min_width, table.columns[2].min_width = 20, 9
    table.columns[3].no_wrap = True
    control = result.control[0]
    table.add_row("", "the script as it is", loss_of(control), "", _state(control))
    for standing in result.standings[:_ROWS]:
        mark = "★" if result.is_recommended(standing) else "✓" if standing.works else ""
        shown = Text(title(standing.candidate), style="bold green" if result.is_recommended(standing) else "")
        if standing.candidate.kind == "random":
            shown.append(" (at random)", style="dim")
        compared = gain(result, standing) if standing.works else ""
        table.add_row(Text(mark, style="green"), shown, loss_of(standing.first), compared, _state(standing.first))
    hidden = len(result.standings) - _ROWS
    if hidden > 0:
        table.add_row("", Text(f"and {hidden} more", style="dim"))
    return table


def _change(result: FixResult) -> Iterator[RenderableType]:
    patch = result.patch
    if patch.diff:
        yield Text.assemble("\n", ("The change", "bold"), f" ({patch_state(result)})")
        yield from _diff(patch.diff)
    if patch.lines:
        yield Text("\nTo change by hand", style="bold")
        yield from (_indented(Text(one_line(line)), 2) for line in patch.lines)


def _diff(diff: str) -> Iterator[Text]:
    """Line by line and never cut off: it may be copied from here."""
    shown = Syntax("", "diff", background_color="default").highlight(diff.rstrip())
    for line in shown.split():
        whole = Text.assemble("  ", line)
        whole.no_wrap = True
        yield whole


def _state(result: TrialResult) -> Text:
    text, kind = state(result)
    return Text(one_line(text), style=_STYLES[kind])


def _curve(result: TrialResult) -> str:
    values = [math.log(v) if v > 0 else v for _, v in result.curve]
    positive = all(v > 0 for _, v in result.curve if math.isfinite(v))
    return sparkline(values if positive else [v for _, v in result.curve])


def _fit(name: str) -> str:
    return name if len(name) <= _WIDTH else name[: _WIDTH - 1] + "…"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
