"""Steps as records: what one step has shown, put together and handed on."""

from __future__ import annotations

import numpy as np

from steadygrad.monitor.details import batch_detail, parameter_detail
from steadygrad.monitor.losses import Losses
from steadygrad.monitor.sampling import Schedule
from steadygrad.monitor.state import Measured, Pending, Sink, Stream
from steadygrad.monitor.streams import rate
from steadygrad.monitor.structure import Structure
from steadygrad.naming import Registry
from steadygrad.probes import Probe
from steadygrad.records import Amp, Detail, StepRecord


class Writer:
    """Makes one record of each step and remembers what the next one needs of it."""

    def __init__(self, sink: Sink, registry: Registry, schedule: Schedule, structure: Structure) -> None:
        self._sink = sink
        self._registry = registry
        self._schedule = schedule
        self._structure = structure
        self.losses = Losses()
        self.latest = 0  # the step recorded last

    def write(self, stream: Stream, pending: Pending, amp: Amp | None, probe: Probe | None) -> None:
        """Record a step of this stream."""
        stream.steps += 1
        pending.fetch()
        self._flag(stream, pending)
        measured = pending.measured if amp is None or not amp.skipped else None
        detail = None
        if measured is not None and (self._schedule.sampled or measured.unusual):
            detail = self._detail(stream, measured, pending, probe)
        record = StepRecord(
            step=self._schedule.iteration,
            stream=stream.index,
            loss=self.losses.of_step(pending),
            lr=rate(stream),
            grad_norm=measured.total if measured is not None else None,
            clip=pending.clips.summary,
            amp=amp,
            norms=measured.norms if measured is not None else None,
            detail=detail,
            flags=tuple(pending.flags),
        )
        self._sink.step(record)
        self.latest = record.step
        self._watch_clearing(stream, pending.measured)
        stream.weights = None

    def _flag(self, stream: Stream, pending: Pending) -> None:
        if stream.uncleared is not None and self._schedule.sampled:
            pending.flags.append("stale-gradient")
        if self._schedule.close_up:
            pending.flags.append("close-up")

    def _watch_clearing(self, stream: Stream, measured: Measured | None) -> None:
        """Remember the largest gradient: a later backward shows whether it was cleared in between."""
        stream.uncleared = None
        if measured is None or stream.functional or not self._schedule.next_is_sampled or not len(measured.rows):
            return
        norms = measured.norms[measured.rows]
        if np.isfinite(norms).all() and norms.max() > 0:
            stream.uncleared = self._registry.reference(measured.steepest)

    def _detail(self, stream: Stream, measured: Measured, pending: Pending, probe: Probe | None) -> Detail:
        parameters = parameter_detail(len(self._registry.parameters), measured, stream.weights)
        sites = probe.measure() if probe is not None and self._schedule.probed else {}
        if probe is not None and self._schedule.structural:
            self._structure.recurrence(probe)
        return Detail(parameters, sites, batch_detail(pending))
