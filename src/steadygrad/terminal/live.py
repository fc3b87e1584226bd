"""The live line, and findings as they come."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TextIO

from steadygrad.records import Symptom
from steadygrad.terminal.text import SPARK_WIDTH, SPARKS, encodes, one_line, pairs, sparkline

_CLEAR = "\r\x1b[2K"
_COLORS = {"healthy": "32", "warning": "33", "unhealthy": "31", "critical": "31"}

_current: LiveStatus | None = None


class LiveStatus:
    """One status line at the bottom of the terminal, with a sparkline of the loss over the whole run.

    On a terminal the line gives way to whatever the script prints and stays away while a progress bar holds the last
    line. To notice both, the ``write`` of ``sys.stdout`` and ``sys.stderr`` is watched until the context ends; what is
    written is not changed. Where stderr is piped there is a plain line every ``plain_interval`` seconds instead.
    Trouble with the terminal turns the line off; it never disturbs the script.

    Args:
        stream: where to draw; ``sys.stderr`` by default.
        interval: least time between two drawings, in seconds.
        plain_interval: the same for plain lines.

    Example:
        >>> with LiveStatus() as status:
        ...     status.update(step=1, loss=0.5, grad_norm=1.0, lr=0.1, state="healthy")
    """

    def __init__(self, stream: TextIO | None = None, *, interval: float = 0.125, plain_interval: float = 30.0) -> None:
        self._stream = stream or sys.stderr
        self._live = _is_live(self._stream)
        self._interval = interval if self._live else plain_interval
        self._next = time.monotonic() + (0.0 if self._live else plain_interval)
        self._losses: list[float] = []
        self._trend: list[float] = []
        self._visible = False
        self._partial = ""  # what the script left on the last line: "" nothing, "bar" a progress bar, else "text"
        self._watched: list[tuple[Any, Callable[[str], Any]]] = []
        self._pid = os.getpid()

    def __enter__(self) -> Self:
        global _current  # noqa: PLW0603 - findings printed meanwhile have to know the line that is in their way
        _current = self
        if self._live:
            for stream in {id(s): s for s in (sys.stdout, sys.stderr, self._stream) if s is not None}.values():
                self._watch(stream)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _current  # noqa: PLW0603
        _current = None
        self._hide()
        for stream, write in self._watched:
            if getattr(stream.write, "__wrapped__", None) is write:
                del stream.write
        self._watched.clear()
        self._live = False

    def update(
        self,
        *,
        step: int,
        loss: float | None = None,
        grad_norm: float | None = None,
        lr: float | None = None,
        state: str = "healthy",
        note: str | None = None,
    ) -> None:
        """Show a step. Nearly all calls return at once: the line is redrawn some eight times a second.

        Args:
            step: number of the step.
            loss: its loss; NaN and Inf are shown as such.
            grad_norm: global gradient norm.
            lr: learning rate.
            state: healthy, warning, unhealthy or critical: the colour of the line's mark.
            note: some words at the end of the line.
        """
        if loss is not None:
            self._losses.append(loss)
        now = time.monotonic()
        if now < self._next:
            if len(self._losses) >= 4096:
                self._fold()
            return
        self._next = now + self._interval
        self._fold()
        numbers = [("step", str(step)), ("loss", _short(loss)), ("grad norm", _short(grad_norm)), ("lr", _short(lr))]
        words = [f"{name} {value}" for name, value in numbers if value]
        if self._live:
            self._draw(words, state, note or "")
        elif os.getpid() == self._pid:
            self._put(f"steadygrad: {', '.join(words)}{f' ({one_line(note)})' if note else ''}\n")

    def print(self, text: str) -> None:
        """Print whole lines above the status line, beside a progress bar or an unfinished line of the script."""
        self._hide()
        if self._live and self._partial:
            self._put(_CLEAR if self._partial == "bar" else "\n")
            self._partial = ""
        self._put(text if text.endswith("\n") else text + "\n")

    def _fold(self) -> None:
        """Move the losses since the last drawing into the trend, which halves itself rather than grow."""
        if not self._losses:
            return
        broken = [value for value in self._losses if not math.isfinite(value)]
        self._trend.append(broken[0] if broken else sum(self._losses) / len(self._losses))
        self._losses.clear()
        if len(self._trend) > 4 * SPARK_WIDTH:
            self._trend = pairs(self._trend)

    def _draw(self, words: list[str], state: str, note: str) -> None:
        if self._partial or os.getpid() != self._pid:
            return
        fancy = encodes(self._stream, SPARKS + "●")
        trend = sparkline(self._trend) if fancy and len(self._trend) > 1 else ""
        words = [f"{word} {trend}" if trend and word.startswith("loss") else word for word in words]
        text = "  ".join(["steadygrad", *words, *([one_line(note)] if note else [])])
        room = shutil.get_terminal_size().columns - 4
        text = text if len(text) <= room else text[: room - 1] + ("…" if fancy else "~")
        mark = "●" if fancy else "*"
        if "NO_COLOR" not in os.environ:
            mark = f"\x1b[{_COLORS.get(state, '33')}m{mark}\x1b[0m"
        self._visible = True
        # The cursor returns to the start of the line: what bypasses sys.stdout then begins there, not behind our text.
        self._put(f"{_CLEAR}{mark} {text}\r", ours=True)

    def _hide(self) -> None:
        if self._visible:
            self._visible = False
            self._put(_CLEAR, ours=True)

    def _put(self, text: str, *, ours: bool = False) -> None:
        """Write to the terminal itself, past our own watching where the line is meant."""
        write = next((write for stream, write in self._watched if stream is self._stream), None)
        try:
            (write if ours and write else self._stream.write)(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._live = self._visible = False
            self._next = math.inf

    def _watch(self, stream: Any) -> None:
        original: Callable[[str], Any] = stream.write

        def write(text: str) -> Any:
            if self._live and text and os.getpid() == self._pid:
                self._hide()
                self._partial = _left_over(text)
            return original(text)

        write.__wrapped__ = original  # type: ignore[attr-defined]
        try:
            if stream.isatty():
                stream.write = write
                self._watched.append((stream, original))
        except (AttributeError, TypeError, ValueError):  # a stream that takes no attributes cannot be watched
            self._live = False


def _left_over(text: str) -> str:
    """What a write leaves on its last line. Ending in a carriage return it leaves nothing: so a bar removes itself."""
    last = text.rpartition("\n")[2]
    return "" if not last or last.endswith("\r") else ("bar" if "\r" in text or "\x1b" in text else "text")


def _is_live(stream: TextIO) -> bool:
    try:
        return stream.isatty() and os.environ.get("TERM", "") != "dumb"
    except ValueError:  # closed
        return False


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def print_finding(symptom: Symptom) -> None:
    """Print a finding as one plain line on stderr, the moment it is made.

    Example:
        >>> print_finding(Symptom("loss-spike", "warning", "", 12, 12, {}, "The loss jumped to 9 times its level."))
    """
    where = f" at {one_line(symptom.location)}" if symptom.location else ""
    line = f"{symptom.severity} {symptom.code}{where}, step {symptom.first_step}: {one_line(symptom.message)}"
    color = _COLORS.get(symptom.severity, "33")
    styled = _is_live(sys.stderr) and "NO_COLOR" not in os.environ
    text = f"\x1b[{color}msteadygrad\x1b[0m: {line}\n" if styled else f"steadygrad: {line}\n"
    with contextlib.suppress(OSError, ValueError):  # a closed stderr is no reason to stop training
        if _current is not None:
            _current.print(text)
        else:
            sys.stderr.write(text)
            sys.stderr.flush()
