"""The learning-rate range test in the terminal."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from rich.table import Table
from rich.text import Text

from steadygrad.schedules.rangetest import RangeTest
from steadygrad.terminal.text import encodes, one_line, print_parts, sparkline


def print_range_test(
    tests: Mapping[str, RangeTest], *, high: float, short: int | None = None, picture: Path | None = None
) -> None:
    """Print what a sweep says, on stderr.

    Args:
        tests: by optimizer, the leading one first.
        high: the highest rate asked for.
        short: updates that the script made, where it ended before the sweep did.
        picture: where the figure is.

    Example:
        >>> from steadygrad.schedules.rangetest import read_range_test
        >>> print_range_test({"SGD": read_range_test([0.1], [2.0])}, high=1.0)
    """
    drawn = [Text(f"Picture: {picture}", no_wrap=True)] if picture is not None else []
    print_parts([Text(""), _table(tests), *map(Text, _remarks(tests, high, short)), *drawn])


def _table(tests: Mapping[str, RangeTest]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("optimizer")
    for column in ("updates", "rates tested", "loss falls fastest at", "a tenth of lowest"):
        table.add_column(column, justify="right")
    drawn = encodes(sys.stderr, "▁█×")
    table.add_column("loss" if drawn else "")
    for name, test in tests.items():
        table.add_row(
            one_line(name),
            str(len(test.rates)),
            f"{test.rates[0]:.0e} to {test.rates[-1]:.0e}" if len(test.rates) else "none",
            Text(_rate(test.suggested), style="bold green"),
            _rate(None if test.lowest is None else test.lowest / 10),
            sparkline(_bounded(test)) if drawn else "",
        )
    return table


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:.1e}"


def _bounded(test: RangeTest) -> list[float]:
    """The losses, with those that shot up cut off at the height of the start."""
    if not len(test.losses):
        return []
    top = float(test.losses[0]) * 1.2 if test.losses[0] > 0 else math.inf
    return [min(float(loss), top) if math.isfinite(loss) else math.nan for loss in test.losses]


def _remarks(tests: Mapping[str, RangeTest], high: float, short: int | None) -> Iterable[str]:
    lead = next(iter(tests.values()))
    if lead.suggested is not None:
        careful = f", or {_rate(lead.careful)} to be careful" if lead.careful != lead.suggested else ""
        yield f"Try lr = {_rate(lead.suggested)}{careful}. With a schedule, that is its peak."
    for name, test in tests.items():
        which = f"{one_line(name)}: " if len(tests) > 1 else ""
        if test.reason:
            yield f"{which}No rate can be suggested: {test.reason}."
        elif not test.complete and short is None:
            yield f"{which}The loss was still low at {test.rates[-1]:.0e}: try higher rates too (--high {high * 10:g})."
    if short is not None:
        yield (
            f"The script ended after {short} updates that were followed by a loss, before the sweep reached {high:g}. "
            f"Let it train longer, or use --steps {max(20, short)}."
        )
