"""A run in bounded memory: what detectors and diagnosis look at, live and in replay alike.

Everything here is a deterministic function of the records and facts in their order, so a stored run gives the very
answer the live run gave.

Shapes legend: P = parameters, M = sites.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from steadygrad.online import Series, Spread
from steadygrad.records import (
    NO_GRADIENT,
    Detail,
    Fact,
    OptimizerInfo,
    ParameterInfo,
    SiteInfo,
    StepRecord,
    Vector,
)

Array = NDArray[np.float64]
#: Norm vectors kept back before they are worked in.
BLOCK = 32


@dataclass
class Samples:
    """Sampled details: the first ones, an even thinning of the whole run, and the last ones."""

    first: int = 6
    last: int = 12
    middle: int = 48
    head: list[tuple[int, Detail]] = field(default_factory=list)
    tail: list[tuple[int, Detail]] = field(default_factory=list)
    _thin: list[tuple[int, Detail]] = field(default_factory=list)
    _stride: int = 1
    _count: int = 0

    def add(self, step: int, detail: Detail) -> None:
        """Take a detail in, letting others go as needed."""
        if len(self.head) < self.first:
            self.head.append((step, detail))
        self.tail.append((step, detail))
        del self.tail[: -self.last]
        if self._count % self._stride == 0:
            self._thin.append((step, detail))
            if len(self._thin) > self.middle:
                self._thin = self._thin[::2]
                self._stride *= 2
        self._count += 1

    def all(self) -> list[tuple[int, Detail]]:
        """Everything kept, in order of step."""
        return [
            pair for _, pair in sorted({step: (step, d) for step, d in [*self._thin, *self.head, *self.tail]}.items())
        ]


@dataclass(frozen=True)
class Spike:
    """A loss far above its own recent spread, with what was seen of that batch."""

    step: int
    loss: float
    centre: float
    deviation: float
    batch: dict[str, float]


@dataclass
class ClipHistory:
    """What the script's own clipping did."""

    calls: int = 0
    active: int = 0
    kind: str = ""
    threshold: float = math.nan
    coefficient: Series = field(default_factory=Series)


@dataclass
class StreamHistory:
    """One optimizer's steps."""

    index: int
    steps: int = 0
    measured: int = 0  # steps whose gradients were measured: all but those a GradScaler skipped
    first_step: int = 0
    last_step: int = 0
    loss: Series = field(default_factory=Series)
    grad_norm: Series = field(default_factory=Series)
    lr: Series = field(default_factory=Series)
    clip: ClipHistory = field(default_factory=ClipHistory)
    samples: Samples = field(default_factory=Samples)
    spikes: list[Spike] = field(default_factory=list)
    spike_count: int = 0
    flags: dict[str, list[int]] = field(default_factory=dict)  # flag -> [count, first step, last step]
    amp_steps: int = 0
    amp_skips: list[int] = field(default_factory=list)
    scale: Series = field(default_factory=Series)
    _first_norms: Array = field(default_factory=lambda: np.zeros(0))
    _last_norms: Array = field(default_factory=lambda: np.zeros(0))
    _peak_norms: Array = field(default_factory=lambda: np.zeros(0))
    _missing: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    _zero: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    _first_bad: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    _spread: Spread = field(default_factory=Spread)
    _waiting: list[tuple[int, Vector]] = field(default_factory=list)

    def add(self, record: StepRecord) -> None:
        """Take one step in."""
        self.steps += 1
        self.first_step = self.first_step or record.step
        self.last_step = record.step
        if record.lr is not None:
            self.lr.add(record.step, record.lr)
        for flag in record.flags:
            count, first, _ = self.flags.get(flag, [0, record.step, record.step])
            self.flags[flag] = [count + 1, first, record.step]
        if record.amp is not None:
            self.amp_steps += 1
            self.scale.add(record.step, record.amp.scale)
            if record.amp.skipped and len(self.amp_skips) < 10_000:
                self.amp_skips.append(record.step)
        if record.loss is not None:
            self._add_loss(record)
        if record.grad_norm is not None:
            self.grad_norm.add(record.step, record.grad_norm)
        if record.clip is not None:
            self._add_clip(record)
        if record.norms is not None:
            self.measured += 1
            self._waiting.append((record.step, record.norms))
            if len(self._waiting) >= BLOCK:
                self._settle()
        detail = record.detail
        if detail is None or "close-up" in record.flags:  # close-ups would make trouble look typical
            return
        if detail.sites or "update_norm" in detail.parameters:
            self.samples.add(record.step, detail)

    def _add_loss(self, record: StepRecord) -> None:
        loss = record.loss
        assert loss is not None
        self.loss.add(record.step, loss)
        spread = self._spread
        if spread.count >= spread.warmup and math.isfinite(loss) and spread.unusual(loss):
            self.spike_count += 1
            if len(self.spikes) < 64:
                seen = dict(record.detail.batch) if record.detail is not None else {}
                self.spikes.append(Spike(record.step, loss, spread.centre, spread.deviation, seen))
        spread.add(loss)

    def _add_clip(self, record: StepRecord) -> None:
        clip, history = record.clip, self.clip
        assert clip is not None
        history.calls += 1
        history.kind, history.threshold = clip.kind, clip.threshold
        if math.isfinite(clip.coefficient):
            history.active += clip.coefficient < 1.0
            history.coefficient.add(record.step, clip.coefficient)

    # Per parameter, over all measured steps. Norm vectors are worked in when somebody looks.

    @property
    def first_norms(self) -> Array:
        """First gradient norm of each parameter."""
        self._settle()
        return self._first_norms

    @property
    def last_norms(self) -> Array:
        """Gradient norms of the last measured step."""
        self._settle()
        return self._last_norms

    @property
    def peak_norms(self) -> Array:
        """Largest gradient norm of each parameter."""
        self._settle()
        return self._peak_norms

    @property
    def missing(self) -> NDArray[np.int64]:
        """Steps at which the parameter had no gradient."""
        self._settle()
        return self._missing

    @property
    def zero(self) -> NDArray[np.int64]:
        """Steps at which its gradient was exactly zero."""
        self._settle()
        return self._zero

    @property
    def first_bad(self) -> NDArray[np.int64]:
        """First step at which its gradient was not finite; 0: never."""
        self._settle()
        return self._first_bad

    def _settle(self) -> None:
        """Work in the norms kept back by :meth:`add`: a block at a time costs a tenth of one by one."""
        if not self._waiting:
            return
        steps, block = [s for s, _ in self._waiting], [n for _, n in self._waiting]
        self._waiting = []
        self._grow(max(map(len, block)), len(block))
        size = len(self._last_norms)
        rows = np.stack([n if len(n) == size else _padded(n, size) for n in block]).astype(np.float64)
        self._missing += (rows == NO_GRADIENT).sum(0)
        self._zero += (rows == 0.0).sum(0)
        if not math.isfinite(float(rows.sum())):
            bad = ~np.isfinite(rows)
            fresh = bad.any(0) & (self._first_bad == 0)
            self._first_bad[fresh] = np.array(steps)[bad.argmax(0)[fresh]]
        for row in rows if np.isnan(self._first_norms).any() else ():
            new = (row != NO_GRADIENT) & np.isnan(self._first_norms)
            self._first_norms[new] = row[new]
        self._last_norms = rows[-1]
        self._peak_norms = np.fmax(self._peak_norms, np.fmax.reduce(rows, axis=0))

    def _grow(self, size: int, waiting: int) -> None:
        extra = size - len(self._last_norms)
        if extra > 0:
            self._first_norms = np.pad(self._first_norms, (0, extra), constant_values=np.nan)
            self._last_norms = np.pad(self._last_norms, (0, extra), constant_values=NO_GRADIENT)
            self._peak_norms = np.pad(self._peak_norms, (0, extra), constant_values=NO_GRADIENT)
            self._missing = np.pad(self._missing, (0, extra), constant_values=self.measured - waiting)
            self._zero = np.pad(self._zero, (0, extra))
            self._first_bad = np.pad(self._first_bad, (0, extra))


def _padded(norms: Vector, size: int) -> Vector:
    """A vector from before the table grew."""
    return np.pad(norms, (0, size - len(norms)), constant_values=NO_GRADIENT)


class History:
    """Tables, facts and streams of one run so far."""

    def __init__(self) -> None:
        self.parameters: list[ParameterInfo] = []
        self.sites: list[SiteInfo] = []
        self.optimizers: list[OptimizerInfo] = []
        self.streams: dict[int, StreamHistory] = {}
        self.steps = 0
        self._facts: dict[str, list[Fact]] = {}

    def add(self, event: StepRecord | Fact) -> None:
        """Take a record or a fact in, in the order in which they were observed."""
        if isinstance(event, Fact):
            kept = self._facts.setdefault(event.kind, [])
            if len(kept) < 64:
                kept.append(event)
            return
        self.steps = max(self.steps, event.step)
        stream = self.streams.get(event.stream)
        if stream is None:
            stream = self.streams[event.stream] = StreamHistory(event.stream)
        stream.add(event)

    def facts(self, kind: str) -> list[Fact]:
        """Facts of one kind, oldest first."""
        return self._facts.get(kind, [])

    def fact(self, kind: str) -> Fact | None:
        """The first fact of a kind."""
        found = self._facts.get(kind)
        return found[0] if found else None

    @property
    def main(self) -> StreamHistory | None:
        """The stream with the most steps."""
        return max(self.streams.values(), key=lambda s: (s.steps, -s.index), default=None)

    def ordered_streams(self) -> list[StreamHistory]:
        """Streams by index."""
        return [self.streams[i] for i in sorted(self.streams)]

    def named(self, rows: Iterable[int]) -> list[str]:
        """Parameter names of table rows."""
        return [self.parameters[int(r)].name for r in rows]


def site_matrix(samples: Sequence[tuple[int, Detail]], key: str, size: int) -> Array:
    """``[samples, M]`` of one site statistic; NaN where it was not measured."""
    return _matrix((d.sites.get(key) for _, d in samples), len(samples), size)


def parameter_matrix(samples: Sequence[tuple[int, Detail]], key: str, size: int) -> Array:
    """``[samples, P]`` of one parameter statistic; NaN where it was not measured."""
    return _matrix((d.parameters.get(key) for _, d in samples), len(samples), size)


def _matrix(vectors: Iterator[Vector | None], rows: int, size: int) -> Array:
    out = np.full((rows, size), np.nan)
    for i, vector in enumerate(vectors):
        if vector is not None:
            out[i, : len(vector)] = vector[:size]
    return out
