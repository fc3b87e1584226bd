"""One pass over a stored run, thinned on the way so that drawing costs the same for 100 steps and for a million.

Shapes legend: R = rows (parameters or sites), C = columns (ranges of steps).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from steadygrad.records import Detail, StepRecord, Vector
from steadygrad.store import Run

MAX_POINTS = 2000
MAX_COLUMNS = 400
MAX_MARKS = 200

_T = TypeVar("_T", bound=np.generic)
_Point = tuple[int, float]


class Envelope:
    """A curve thinned to ``limit`` points that keeps the extremes of every stretch, so that no spike disappears.

    Values that cannot be drawn (NaN, Inf, and zero or less on a ``positive`` axis) are kept as marks.

    Example:
        >>> curve = Envelope(limit=4)
        >>> for step in range(1000):
        ...     curve.add(step, 9.0 if step == 123 else 1.0)
        >>> len(curve.points()) <= 4, max(value for _, value in curve.points())
        (True, 9.0)
    """

    def __init__(self, *, limit: int = MAX_POINTS, positive: bool = False) -> None:
        self._buckets: list[tuple[_Point, _Point]] = []
        self._limit, self._positive = limit // 2, positive
        self._width, self._filled = 1, 0
        self._stride, self._skipped = 1, 0
        self.marks: list[_Point] = []

    def add(self, step: int, value: float | None) -> None:
        """Append a value; None (not known) is ignored."""
        if value is None:
            return
        if not math.isfinite(value) or (self._positive and value <= 0):
            self._mark((step, value))
            return
        point = (step, value)
        if self._buckets and self._filled < self._width:
            self._buckets[-1] = _joined(self._buckets[-1], (point, point))
        else:
            if len(self._buckets) == self._limit:
                self._thin()
            self._buckets.append((point, point))
            self._filled = 0
        self._filled += 1

    def _thin(self) -> None:
        pairs = zip(self._buckets[::2], self._buckets[1::2], strict=False)
        odd = self._buckets[-1:] if len(self._buckets) % 2 else []
        self._buckets = [_joined(left, right) for left, right in pairs] + odd
        self._width *= 2

    def _mark(self, point: _Point) -> None:
        self._skipped += 1
        if self._skipped < self._stride:
            return
        self._skipped = 0
        self.marks.append(point)
        if len(self.marks) > MAX_MARKS:
            self.marks = self.marks[::2]
            self._stride *= 2

    def points(self) -> list[_Point]:
        """(step, value) in order of step; two per stretch where several steps share one."""
        drawn: list[_Point] = []
        for low, high in self._buckets:
            drawn.extend([low] if low[0] == high[0] else sorted((low, high)))
        return drawn

    def __bool__(self) -> bool:
        return bool(self._buckets or self.marks)


def _joined(left: tuple[_Point, _Point], right: tuple[_Point, _Point]) -> tuple[_Point, _Point]:
    low = right[0] if right[0][1] < left[0][1] else left[0]
    high = right[1] if right[1][1] > left[1][1] else left[1]
    return low, high


class Field:
    """A table of rows over steps, thinned to ``columns`` columns; each keeps the largest finite value met in it.

    Negative entries mean "nothing here" (as NO_GRADIENT does). A row may appear later: vectors can grow.
    """

    def __init__(self, *, columns: int = MAX_COLUMNS, nan_is_absent: bool = False) -> None:
        self._columns, self._nan_is_absent = columns, nan_is_absent
        self._width = 1
        self._cells: dict[int, tuple[Vector, NDArray[np.bool_]]] = {}

    def add(self, step: int, values: Vector) -> None:
        """Merge one step's vector in."""
        broken = np.isinf(values) if self._nan_is_absent else ~np.isfinite(values)
        drawable = np.where(np.isfinite(values) & (values >= 0), values, np.float32(np.nan))
        self._merge(step // self._width, drawable, broken)
        if len(self._cells) > self._columns:
            self._thin()

    def _merge(self, key: int, values: Vector, broken: NDArray[np.bool_]) -> None:
        if key in self._cells:
            old_values, old_broken = self._cells[key]
            size = max(len(values), len(old_values))
            values = np.fmax(_padded(values, size), _padded(old_values, size))
            broken = np.logical_or(_padded(broken, size, fill=False), _padded(old_broken, size, fill=False))
        self._cells[key] = values, broken

    def _thin(self) -> None:
        cells, self._cells = self._cells, {}
        self._width *= 2
        for key, (values, broken) in cells.items():
            self._merge(key // 2, values, broken)

    def table(self) -> tuple[list[int], NDArray[np.float64], NDArray[np.bool_]]:
        """First step of every column, values (R, C) with NaN for nothing, and where non-finite values were (R, C)."""
        keys = sorted(self._cells)
        rows = max((len(values) for values, _ in self._cells.values()), default=0)
        values = [_padded(self._cells[key][0], rows) for key in keys]
        broken = [_padded(self._cells[key][1], rows, fill=False) for key in keys]
        steps = [max(1, key * self._width) for key in keys]
        shape = (len(keys), rows)
        return steps, np.array(values, float).reshape(shape).T, np.array(broken, bool).reshape(shape).T

    def __bool__(self) -> bool:
        return bool(self._cells)


def _padded(values: NDArray[_T], size: int, fill: float | bool = float("nan")) -> NDArray[_T]:
    missing = size - len(values)
    return values if missing <= 0 else np.pad(values, (0, missing), constant_values=fill)


@dataclass
class Stream:
    """The curves of one optimizer."""

    loss: Envelope = field(default_factory=Envelope)
    lr: Envelope = field(default_factory=Envelope)
    before_clip: Envelope = field(default_factory=lambda: Envelope(positive=True))
    after_clip: Envelope = field(default_factory=lambda: Envelope(positive=True))
    threshold: Envelope = field(default_factory=lambda: Envelope(positive=True))
    scale: Envelope = field(default_factory=lambda: Envelope(positive=True))


@dataclass
class Flow:
    """Site statistics at one sampled step; where streams sample different sites, each site's own first (or last)."""

    step: int
    stats: dict[str, Vector]


@dataclass
class Series:
    """Everything the figures draw, of bounded size."""

    streams: dict[int, Stream] = field(default_factory=dict)
    norms: Field = field(default_factory=Field)
    ratios: Field = field(default_factory=Field)
    dead: Field = field(default_factory=lambda: Field(nan_is_absent=True))
    saturated: Field = field(default_factory=lambda: Field(nan_is_absent=True))
    batch: dict[str, Envelope] = field(default_factory=dict)
    first: Flow | None = None
    last: Flow | None = None  # the last in which anything was finite
    blind: int | None = None  # a later sampled step in which nothing was
    latest: dict[str, Vector] = field(default_factory=dict)  # last sampled parameter statistics

    def add(self, record: StepRecord) -> None:
        """Take one step in."""
        _add_scalars(self.streams.setdefault(record.stream, Stream()), record)
        if record.norms is not None:
            self.norms.add(record.step, record.norms)
            self.latest["grad_norm"] = record.norms
        if record.detail is not None:
            _add_detail(self, record.step, record.detail)


def read_series(run: Run) -> Series:
    """Read a run once, in bounded memory.

    Raises:
        StoreError: the run cannot be read.
    """
    series = Series()
    for record in run.records():
        series.add(record)
    return series


def _add_scalars(stream: Stream, record: StepRecord) -> None:
    step, clip = record.step, record.clip
    stream.loss.add(step, record.loss)
    stream.lr.add(step, record.lr)
    by_norm = clip is not None and clip.kind == "norm"
    before = clip.norm if clip is not None and by_norm and record.grad_norm is None else record.grad_norm
    stream.before_clip.add(step, before)
    if clip is not None and by_norm:
        stream.after_clip.add(step, clip.norm * clip.coefficient)
        stream.threshold.add(step, clip.threshold)
    if record.amp is not None:
        stream.scale.add(step, record.amp.scale)


def _add_detail(series: Series, step: int, detail: Detail) -> None:
    series.latest.update(detail.parameters)
    if {"update_norm", "weight_norm"} <= set(detail.parameters):
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ratio = detail.parameters["update_norm"] / detail.parameters["weight_norm"]
        ratio[detail.parameters["weight_norm"] == 0] = -1  # zero-initialised: there is no ratio yet
        series.ratios.add(step, ratio)
    for name, table in (("dead_units", series.dead), ("saturated", series.saturated)):
        if name in detail.sites and not np.isnan(detail.sites[name]).all():
            table.add(step, detail.sites[name])
    for name, value in detail.batch.items():
        series.batch.setdefault(name, Envelope()).add(step, value)
    if detail.sites:
        _add_flow(series, Flow(step, dict(detail.sites)))


def _add_flow(series: Series, now: Flow) -> None:
    scales = [now.stats[name] for name in ("out_rms", "signal") if name in now.stats]
    if not any(np.isfinite(scale).any() for scale in scales):
        series.blind = now.step
        return
    series.first = now if series.first is None else Flow(series.first.step, dict(_filled(series.first, now)))
    series.last = now if series.last is None else Flow(now.step, dict(_filled(now, series.last)))
    series.blind = None


def _filled(flow: Flow, other: Flow) -> Iterator[tuple[str, Vector]]:
    """The statistics of ``flow``, and those of ``other`` for sites that did not run in it."""
    ran = flow.stats["calls"] > 0 if "calls" in flow.stats else ~np.isnan(next(iter(flow.stats.values())))
    for name, values in {**other.stats, **flow.stats}.items():
        theirs = other.stats.get(name, values)
        size = max(len(values), len(theirs))
        keep = _padded(ran, size, fill=False)
        yield name, np.where(keep, _padded(values, size), _padded(theirs, size)).astype(np.float32)
