"""Steps wait until there are some of them: one by one, each would be worked in with cold caches."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from steadygrad.monitor.state import Rows, Sink
from steadygrad.records import NO_GRADIENT, Clip, Fact, OptimizerInfo, ParameterInfo, SiteInfo, StepRecord

#: Steps are handed on this many together, and at least every so many seconds.
TOGETHER = 256
PATIENCE = 0.25


class Passed(NamedTuple):
    """A step with nothing unusual about it, as it was noted: its record is made later."""

    step: int
    stream: int
    loss: float
    lr: float
    grad_norm: float
    clip: Clip | None
    norms: Tensor
    rows: Rows | None  # None: of all parameters in the run's table
    parameters: int  # in that table at the time

    def record(self) -> StepRecord:
        """The same as a record."""
        norms: NDArray[np.float32] = self.norms.detach().cpu().float().numpy()
        if self.rows is not None:
            norms = spread_out(norms, self.rows, self.parameters)
        return StepRecord(self.step, self.stream, self.loss, self.lr, self.grad_norm, self.clip, None, norms)


def spread_out(norms: NDArray[np.float32], rows: Rows, size: int) -> NDArray[np.float32]:
    """Norms of some parameters as a vector over all ``size`` of them."""
    vector = np.full(size, NO_GRADIENT, dtype=np.float32)
    vector[rows] = norms
    return vector


class Waiting:
    """A sink before another: keeps ordinary steps back a while, and hands everything on in the order it came."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._steps: list[StepRecord | Passed] = []
        self._handed_on = time.monotonic()

    def passed(self, step: Passed) -> None:
        """Take a step that was noted only. Cannot fail, and hands nothing on."""
        self._steps.append(step)

    @property
    def due(self) -> bool:
        """Whether steps have waited for long enough."""
        return len(self._steps) >= TOGETHER or time.monotonic() - self._handed_on > PATIENCE

    def hand_on(self) -> None:
        """Hand on what waits."""
        steps, self._steps = self._steps, []
        for step in steps:
            self._sink.step(step.record() if isinstance(step, Passed) else step)
        self._handed_on = time.monotonic()

    def step(self, record: StepRecord) -> None:
        """One optimizer step."""
        self._steps.append(record)
        if record.flags or record.grad_norm is None or self.due:
            self.hand_on()

    def parameters(self, table: list[ParameterInfo]) -> None:
        """The parameter table."""
        self.hand_on()
        self._sink.parameters(table)

    def sites(self, table: list[SiteInfo]) -> None:
        """The site table."""
        self.hand_on()
        self._sink.sites(table)

    def optimizers(self, table: list[OptimizerInfo]) -> None:
        """The optimizer table."""
        self.hand_on()
        self._sink.optimizers(table)

    def fact(self, fact: Fact) -> None:
        """Something seen once."""
        self.hand_on()
        self._sink.fact(fact)
