"""Text that fits a terminal: one line, printable, and drawn with what the stream can encode."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from typing import TextIO

from rich.console import Console, RenderableType
from rich.text import Text

SPARKS = "▁▂▃▄▅▆▇█"
SPARK_WIDTH = 16
#: Wider lines are hard to read.
MAX_WIDTH = 100


def print_parts(parts: Iterable[RenderableType], console: Console | None = None) -> None:
    """Print on stderr, in one piece, whatever state it is in. Text that says ``no_wrap`` is left to the terminal."""
    console = console or Console(stderr=True, highlight=False, markup=False, emoji=False)
    console.width = min(console.width, MAX_WIDTH)
    with console.capture() as capture:
        for part in parts:
            console.print(part, soft_wrap=isinstance(part, Text) and part.no_wrap is True, highlight=False)
    # Tables are padded to full width, which is litter in a log file.
    lines = [line.rstrip() for line in capture.get().splitlines()]
    with contextlib.suppress(OSError, ValueError):  # a closed stderr is no reason to fail a finished run
        console.file.write("\n".join(lines) + "\n")
        console.file.flush()


def encodes(stream: TextIO, text: str) -> bool:
    """Whether the stream can show ``text``; a log file may be plain ASCII."""
    try:
        text.encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeError, LookupError):
        return False
    return True


def pairs(values: list[float]) -> list[float]:
    """Neighbours averaged; what is not finite stays so."""
    return [sum(values[i : i + 2]) / len(values[i : i + 2]) for i in range(0, len(values), 2)]


def sparkline(values: list[float], width: int = SPARK_WIDTH) -> str:
    """A curve in one line of text; ``×`` where a value is not finite.

    Example:
        >>> sparkline([4.0, 3.0, 2.0, float("nan"), 1.0])
        '█▆▃×▁'
    """
    while len(values) > width:
        values = pairs(values)
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    span = high - low if 0 < high - low < math.inf else math.inf
    top = len(SPARKS) - 1
    return "".join(
        SPARKS[round((value / span - low / span) * top)] if math.isfinite(value) else "×" for value in values
    )


def one_line(text: str) -> str:
    """One line without control characters: names and messages come from the user's script."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
