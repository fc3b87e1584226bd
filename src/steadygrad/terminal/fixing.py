"""What ``steadygrad fix`` shows: a bar for every trial that runs, a line for each that is over, and the answer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from steadygrad.records import TrialResult
from steadygrad.terminal.text import one_line, sparkline
from steadygrad.trials.job import Attempt, Job, title
from steadygrad.trials.judge import Standing
from steadygrad.trials.result import FixResult

_STATUS = {
    "finished": "", "stopped-early": "stopped early", "non-finite": "NaN", "crashed": "crashed",
    "not-applicable": "does not apply", "cut": "no time left",
}  # fmt: skip
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
        self._left = 0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def say(self, text: str) -> None:
        """A phase begins."""
        self._print(Text(text, style="bold"))

    def added(self, jobs: Sequence[Job]) -> None:
        """These jobs are going to run."""
        self._left = len(jobs)

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
    console = console or Console(stderr=True)
    for part in _parts(result, report):
        console.print(part, highlight=False, soft_wrap=isinstance(part, Text))


def _parts(result: FixResult, report: Path | None) -> Iterator[RenderableType]:
    yield Text("")
    yield _headline(result)
    if result.diagnosis.causes and result.verdict != "nothing-to-fix":
        cause = result.diagnosis.causes[0]
        where = f" at {one_line(cause.location)}" if cause.location else ""
        yield Text.assemble("  cause    ", (cause.code, "bold"), where, f", {cause.confidence:.0%}")
        yield from (Text(f"           {one_line(line)}", style="dim") for line in cause.evidence[:2])
    if result.recommended is not None:
        yield from _answer(result, result.recommended)
    if result.standings:
        yield Padding(_table(result), (1, 0, 0, 2))
    yield from _change(result)
    yield from (Text(f"  {one_line(remark)}", style="yellow") for remark in result.remarks)
    yield Text(_cost(result), style="dim")
    if report is not None:
        yield Text(f"  report: {report}", style="dim")


def _headline(result: FixResult) -> Text:
    words = {
        "fixed": ("FIXED", "bold green", "a remedy was found that works on this script"),
        "nothing-to-fix": ("NOTHING TO FIX", "bold green", "nothing wrong was found"),
        "no-fix-found": (
            "NO FIX FOUND",
            "bold yellow",
            "nothing that was tried beats the script as it is, beyond noise",
        ),
        "unknown": ("UNKNOWN", "bold yellow", _unknown(result)),
    }
    name, style, said = words[result.verdict]
    if result.interrupted:
        said = f"interrupted; so far {said}"
    return Text.assemble((name, style), f"  {result.script}, {result.steps} steps: {said}")


def _unknown(result: FixResult) -> str:
    first = result.control[0] if result.control else None
    if first is not None and first.status == "crashed":
        return f"it ended with an error before there was anything to compare: {one_line(first.note)}"
    return "there was too little to judge by"


def _answer(result: FixResult, best: Standing) -> Iterator[Text]:
    yield Text.assemble("  remedy   ", (title(best.candidate), "bold green"))
    if best.candidate.why:
        yield Text(f"           {one_line(best.candidate.why)}", style="dim")
    before, after = result.control[0], best.first
    yield Text.assemble("  before   ", (_curve(before).ljust(16), "red"), f"  loss {_number(before.loss)}")
    yield Text.assemble(
        "  after    ", (_curve(after).ljust(16), "green"), f"  loss {_number(after.loss)}", f", {gain(result, best)}"
    )


def gain(result: FixResult, standing: Standing, *, brief: bool = False) -> str:
    """An improvement in words.

    On the logarithmic scale it is a ratio of losses; else the share of the way from the start to the best loss.
    """
    if standing.improvement is None:
        return ""
    if result.control[0].loss is None and result.scale != "health":
        return "finite" if brief else "where the script as it is ends in NaN"
    low, high = standing.interval or (standing.improvement, standing.improvement)
    if result.scale == "health":
        return f"{standing.improvement:.2g} findings less"
    if result.scale == "linear":
        text, span = f"{standing.improvement:+.0%}", f" ({low:+.0%} to {high:+.0%})"
    else:
        text, span = f"{ratio(standing.improvement)} the loss", f" ({ratio(high)} to {ratio(low)})"
        text = ratio(standing.improvement) if brief else text
    return text + (span if standing.interval and not brief else "")


def ratio(improvement: float) -> str:
    """A difference of logarithms as a factor of the loss.

    >>> ratio(2.302585), ratio(0.0), ratio(-0.1)
    ('0.1×', '1×', '1.1×')
    """
    return f"{math.exp(-min(700.0, max(-700.0, improvement))):.2g}×"


def _table(result: FixResult) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "remedy", "loss", "", "state"):
        table.add_column(name, justify="right" if name == "loss" else "left", overflow="fold")
    table.columns[1].min_width, table.columns[2].min_width = 20, 9
    control = result.control[0]
    table.add_row("", "the script as it is", _number(control.loss), "", _state(control))
    for standing in result.standings[:_ROWS]:
        mark = "★" if standing is result.recommended else "✓" if standing.works else ""
        shown = Text(title(standing.candidate), style="bold green" if standing is result.recommended else "")
        if standing.candidate.kind == "random":
            shown.append(" (at random)", style="dim")
        compared = gain(result, standing, brief=True) if standing.works else ""
        table.add_row(Text(mark, style="green"), shown, _losses(standing), compared, _state(standing.first))
    hidden = len(result.standings) - _ROWS
    if hidden > 0:
        table.add_row("", Text(f"and {hidden} more", style="dim"))
    return table


def _losses(standing: Standing) -> str:
    first = standing.first
    return _number(first.loss) + ("" if first.status == "finished" else f" at {first.steps}" if first.steps else "")


def _change(result: FixResult) -> Iterator[RenderableType]:
    patch = result.patch
    if patch.diff:
        state = {True: "verified: the changed script ends the same", False: "NOT verified", None: "not run"}
        yield Text.assemble("\n", ("The change", "bold"), f" ({state[patch.verified]})")
        yield Group(Padding(Syntax(patch.diff.rstrip(), "diff", background_color="default"), (0, 0, 0, 2)))
    if patch.lines:
        yield Text("\nTo change by hand", style="bold")
        yield from (Text(f"  {one_line(line)}") for line in patch.lines)


def _cost(result: FixResult) -> str:
    times = f", {result.seconds / result.plain_seconds:.1f} times the script itself" if result.plain_seconds else ""
    seeds = f"{result.seeds} seed{'' if result.seeds == 1 else 's'}"
    return f"  {result.trials} trials, {seeds}, {result.seconds:.0f} s{times}"


def _state(result: TrialResult) -> Text:
    if result.status == "finished" and result.verdict == "healthy":
        return Text("healthy", style="green")
    if result.status == "finished":
        return Text(", ".join(result.symptoms) or result.verdict or "finished", style="yellow")
    style = "red" if result.status in ("non-finite", "crashed") else "dim"
    note = f": {one_line(result.note)}" if result.note and result.status not in ("non-finite", "cut") else ""
    return Text(_STATUS.get(result.status, result.status) + note, style=style)


def _curve(result: TrialResult) -> str:
    values = [math.log(v) if v > 0 else v for _, v in result.curve]
    positive = all(v > 0 for _, v in result.curve if math.isfinite(v))
    return sparkline(values if positive else [v for _, v in result.curve])


def _fit(name: str) -> str:
    return name if len(name) <= _WIDTH else name[: _WIDTH - 1] + "…"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
